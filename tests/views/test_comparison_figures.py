"""Figures of comparisons: what is on them, readable without colours and at the size shown."""

import io

import matplotlib.text
import numpy as np
import pytest
from helpers.comparisons import comparison
from matplotlib.collections import FillBetweenPolyCollection
from PIL import Image

from mnist_jax.studies.findings import pairs, tuning
from mnist_jax.studies.tuning_curves import tuning_curves
from mnist_jax.views import comparison_figures as figures
from mnist_jax.views.comparison import report

MANY = ("sgd", "adam", "lion", "contrib.muon")


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they were before they became PNG files."""
    kept, as_png = [], figures.as_png

    def keep(figure):
        kept.append(figure)
        return as_png(figure)

    monkeypatch.setattr(figures, "as_png", keep)
    return kept


@pytest.mark.parametrize(
    ("results", "names"),
    [
        (comparison(), ["differences", "learning_rates", "mechanism", "tuning_curves"]),
        (comparison(nets=("he",), trials=4), ["differences", "learning_rates", "mechanism", "tuning_curves"]),
        (comparison(nets=("he",), labels=MANY), ["differences", "learning_rates", "tuning_curves"]),
    ],
    ids=["two", "small", "many"],
)
def test_text_is_at_least_9_points_at_the_size_shown(drawn, results, names):
    files = report(results)
    assert sorted(files) == ["README.md", *(f"{name}.png" for name in names)]
    for name in names:
        with Image.open(io.BytesIO(files[f"{name}.png"])) as picture:
            assert 400 < picture.width <= 1000
    for figure in drawn:
        texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]
        assert texts
        assert min(text.get_fontsize() for text in texts) >= 9
        figure.draw_without_rendering()
        for shown in figure.legends:
            assert 0 <= shown.get_window_extent().x0 < shown.get_window_extent().x1 <= figure.bbox.width


def test_optimizers_are_told_apart_without_colours(drawn):
    results = comparison()
    figures.tuning_curves_figure(tuning(results), results, "")
    figures.mechanism_figure(results["mechanism"], "")
    for figure in drawn:
        marked = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
        assert len({(line.get_linestyle(), line.get_marker()) for line in marked}) == 2
    hatches = {band.get_hatch() for band in drawn[0].axes[0].collections}
    assert len(hatches) == 2


def test_a_band_ends_where_it_is_open_above(drawn):
    results = comparison(nets=("he",), labels=MANY)
    figures.tuning_curves_figure(tuning(results), results, "")
    assert [axes.get_title() for axes in drawn[0].axes] == ["adam", "lion", "muon", "sgd"] + [""] * 2
    for axes, label in zip(drawn[0].axes, ["adam", "lion", "contrib.muon", "sgd"], strict=False):
        scores = [trial["validation_correct"][-1] / 5000 for trial in results["nets"]["he"][label]["trials"][1:]]
        curves = tuning_curves(scores)
        (band,) = (found for found in axes.collections if isinstance(found, FillBetweenPolyCollection))
        (marked,) = (line for line in axes.lines if line.get_marker() == "^")
        assert 1 <= curves.open_above < 32
        assert band.get_paths()[0].vertices[:, 0].max() == curves.open_above == marked.get_xdata()[0]


def test_curves_are_those_that_the_legend_names(drawn):
    results = comparison(nets=("he",))
    curves = tuning(results)
    figures.tuning_curves_figure(curves, results, "")
    (axes,) = drawn[0].axes
    for label, style in zip(("sgd", "adam"), figures.STYLES, strict=False):
        found = curves["he"][label]
        (median,) = (line for line in axes.lines if line.get_marker() == style.marker)
        dotted, lower = (
            [line for line in axes.lines if line.get_color() == style.colour and check(line)]
            for check in (lambda line: line.get_linestyle() == ":", lambda line: line.get_linewidth() == 0.8)
        )
        for (line,), expected in (
            ([median], found.median.point),
            (dotted, found.expected.point),
            (lower, found.median.low),
        ):
            np.testing.assert_array_equal(line.get_ydata(), expected)
        assert not np.array_equal(found.median.point, found.expected.point)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_says_how_bands_hold_and_where_they_are_open(drawn):
    for labels, trials in ((("sgd", "adam"), 32), (("sgd", "adam", "lion"), 32), (("sgd", "adam"), 4)):
        results = comparison(nets=("he",), labels=labels, trials=trials)
        figures.tuning_curves_figure(tuning(results), results, "")
    two, three, small = map(legend, drawn)
    assert "band of the median, 95 % for both together" in two
    assert "band of the median, 95 % each" in three
    mark, nothing = "open above beyond this budget", "no band: open above at every budget"
    assert [(mark in words, nothing in words) for words in (two, three, small)] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_a_curve_below_the_scale_is_noted(drawn):
    results = comparison(nets=("he", "mlp"))
    for trial in results["nets"]["mlp"]["sgd"]["trials"]:
        trial["validation_correct"][-1] = 600
    figures.tuning_curves_figure(tuning(results), results, "")
    notes = [[text.get_text() for text in axes.texts] for axes in drawn[0].axes]
    assert notes == [[], ["sgd: median below this scale"]]


def points(axes):
    return [line for line in axes.lines if line.get_markersize() == 4.5]


def test_every_trial_is_a_point(drawn):
    results = comparison(nets=("he",))
    entry = results["nets"]["he"]["adam"]
    entry["trials"][3]["diverged"] = True
    figures.learning_rates_figure(results, "")
    (axes,) = drawn[0].axes
    assert len(points(axes)) == 2 * 33
    assert [line.get_marker() for line in points(axes)].count("x") == 1
    rates = sorted(float(line.get_xdata()[0]) for line in points(axes))
    assert rates == sorted(
        trial["settings"]["learning_rate"] for found in results["nets"]["he"].values() for trial in found["trials"]
    )
    lowest, highest = axes.get_ylim()
    assert all(lowest <= line.get_ydata()[0] <= highest for line in points(axes))
    chosen = {float(line.get_xdata()[0]) for line in axes.lines if line.get_markersize() == 12}
    assert chosen == {
        found["trials"][found["chosen"]]["settings"]["learning_rate"] for found in results["nets"]["he"].values()
    }
    first = [line.get_xdata()[0] for line in axes.lines if line.get_markersize() == 9]
    assert first == [0.01, 0.01]


def test_points_are_validation_accuracies_filled_where_the_rate_is_scheduled(drawn):
    results = comparison(nets=("he",))
    figures.learning_rates_figure(results, "")
    (axes,) = drawn[0].axes
    lowest, _ = axes.get_ylim()
    for entry, style in zip(results["nets"]["he"].values(), figures.STYLES, strict=False):
        shown = [line for line in points(axes) if line.get_marker() == style.marker]
        for line, trial in zip(shown, entry["trials"], strict=True):
            assert line.get_ydata()[0] == pytest.approx(max(trial["validation_correct"][-1] / 5000, lowest))
            assert (line.get_markerfacecolor() == "none") == (trial["settings"]["schedule"] == "constant")
    assert {line.get_markerfacecolor() for line in points(axes)} == {"none", "C0", "C1"}
    hollow = {
        handle.get_label(): handle.get_markerfacecolor() == "none" for handle in drawn[0].legends[0].legend_handles
    }
    assert (hollow["constant"], hollow["cosine or warm-up"]) == (True, False)


def test_matrix_has_claim_s_below_the_diagonal_and_b_above(drawn):
    results = comparison(nets=("he",), labels=MANY, leads={"lion": 2.0})
    found = pairs(results)
    figures.differences_figure(found, results, "")
    (axes,) = drawn[0].axes
    cells = {tuple(map(round, text.get_position())): text.get_text() for text in axes.texts}
    order = ["adam", "lion", "contrib.muon", "sgd"]
    assert len(cells) == 4 * 3
    for pair in found["he"]:
        first, second = order.index(pair.first), order.index(pair.second)
        low, high = sorted((first, second))
        for (column, row), gap in (((low, high), pair.settings.points), ((high, low), pair.searches)):
            signed = gap if row == first else gap.times(-1)
            assert cells[column, row].split("\n") == [
                f"{round(signed.mean, 2) + 0.0:+.2f}",
                f"±{signed.high - signed.mean:.2f}",
            ]
    shown = [patch for patch in axes.patches if np.allclose(patch.get_facecolor(), (0.8, 0.8, 0.8, 1))]
    gaps = [gap for pair in found["he"] for gap in (pair.settings.points, pair.searches)]
    assert len(shown) == sum(gap.excludes_zero for gap in gaps) > 0


def test_two_optimizers_have_a_row_per_net(drawn):
    results = comparison(nets=("mlp", "he", "adam"))
    found = pairs(results)
    figures.differences_figure(found, results, "")
    tuned, course = drawn[0].axes
    assert [label.get_text() for label in tuned.get_yticklabels()] == ["mlp", "he", "adam"]
    shown = {found.get_label(): found.lines for axes in (tuned, course) for found in axes.containers}
    wanted = {
        "S: chosen settings": [pair.settings.points for (pair,) in found.values()],
        "B: what searches find": [pair.searches for (pair,) in found.values()],
        "C: the course's settings": [pair.course for (pair,) in found.values()],
    }
    assert shown.keys() == wanted.keys()
    for label, gaps in wanted.items():
        line, _, (bars,) = shown[label]
        np.testing.assert_allclose(np.array(line.get_xdata(), float), [gap.mean for gap in gaps])
        ends = [bar[:, 0] for bar in bars.get_segments()]
        np.testing.assert_allclose(ends, [[gap.low, gap.high] for gap in gaps])


def test_large_differences_do_not_hide_small_ones(drawn):
    results = comparison()
    differences = {net: [pair._replace(course=pair.course.times(100))] for net, (pair,) in pairs(results).items()}
    figures.differences_figure(differences, results, "")
    assert [axes.get_xscale() for axes in drawn[0].axes] == ["linear", "symlog"]


def test_values_that_are_0_or_not_finite_are_left_out(drawn):
    results = comparison(nets=("he",))
    results["mechanism"]["sgd"]["layers"]["fc1"]["gradient"][0] = 0.0
    results["mechanism"]["sgd"]["layers"]["fc1"]["gradient"][5] = None
    figures.mechanism_figure(results["mechanism"], "")
    line = drawn[0].axes[3].lines[0]
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [0, 5]


@pytest.mark.parametrize("trials", [1, 4])
def test_a_small_comparison_has_all_figures(trials):
    assert len(report(comparison(nets=("he",), trials=trials))) == 5


def test_a_comparison_in_which_an_optimizer_always_diverges_has_all_figures():
    results = comparison(nets=("he",))
    entry = results["nets"]["he"]["sgd"]
    for trial in entry["trials"]:
        trial |= {"diverged": True, "validation_correct": [480], "validation_loss": [None], "test_correct": [40]}
    entry["final"] |= {"diverged": [True] * 20, "test_correct": [[40]] * 20, "tests": [[[40, 40]]] * 20}
    layers = results["mechanism"]["sgd"]["layers"]
    layers["fc1"] = {name: [None] * len(values) for name, values in layers["fc1"].items()}
    files = report(results)
    assert len(files) == 5
    assert "| 20 of 20 (20 diverged) |" in files["README.md"].decode()
