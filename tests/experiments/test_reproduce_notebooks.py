import io
import json
from itertools import product

import numpy as np
import pytest
from helpers import ROOT, script
from PIL import Image
from scipy import stats
from scipy.optimize import brentq

from mnist_jax import LESSONS
from mnist_jax.studies import published
from mnist_jax.studies.reproduction import LEVEL, draw_spread

RECORDED = ROOT / "experiments" / "results" / "reproduce_notebooks"
IMAGES = 10_000


@pytest.fixture(scope="module")
def reproduce():
    return script("reproduce_notebooks")


@pytest.fixture(scope="module")
def recorded():
    return json.loads((RECORDED / "results.json").read_text())


@pytest.fixture
def results():
    """As in results.json: ten runs a lesson around the published curves."""
    return fake_results(10)


def fake_results(seeds):
    rng = np.random.default_rng(0)
    lessons = {}
    for lesson_id in LESSONS:
        accuracy, loss = (np.array(curve(lesson_id)) for curve in (published.accuracies, published.losses))
        lessons[lesson_id] = {
            "diverged": [False] * seeds,
            "test_correct": np.round(IMAGES * (accuracy + rng.normal(0, 0.001, (seeds, 10)))).astype(int).tolist(),
            "test_loss": (loss * np.exp(rng.normal(0, 0.01, (seeds, 10)))).tolist(),
        }
    return {"data": {"test": IMAGES}, "config": {"seeds": list(range(seeds))}, "lessons": lessons}


def with_losses(results, lesson_id, losses):
    entry = {**results["lessons"][lesson_id], "test_loss": np.asarray(losses).tolist()}
    return {**results, "lessons": {**results["lessons"], lesson_id: entry}}


def test_close_runs_are_reproduced_and_a_shift_is_noticed(reproduce, results):
    found = reproduce.compared(results)["by_point"]
    assert len(found["points"]) == 120
    assert not any(point["outside"] for point in found["points"])
    assert reproduce.point_verdict(found).startswith("Reproduced: none of the 120")
    entry = results["lessons"]["he"]
    entry["test_correct"] = [[count + 200 for count in run] for run in entry["test_correct"]]
    found = reproduce.compared(results)["by_point"]
    outside = [(point["lesson"], point["what"]) for point in found["points"] if point["outside"]]
    assert outside == [("he", "accuracy")] * 10
    words = reproduce.point_verdict(found)
    assert "he accuracy epoch 1" in words
    assert "Reproduced: adam, batch_norm, dropout, mlp, relu" in words


@pytest.mark.parametrize(("part", "outside"), [(1.1, False), (0.9, True)])
def test_a_point_is_outside_if_its_p_is_below_the_level_divided_by_all_points(reproduce, results, part, outside):
    losses = np.array(results["lessons"]["he"]["test_loss"])
    draws = losses[:, 3]
    z = stats.t.isf(part * LEVEL / 120 / 2, len(draws) - 1)
    draws += published.losses("he")[3] - z * draw_spread(draws, published.LOSS_STEP) - draws.mean()
    found = reproduce.compared(with_losses(results, "he", losses))["by_point"]
    named = [f"{p['lesson']} {p['what']} {p['epoch']}" for p in found["points"] if p["outside"]]
    assert named == ["he loss 4"] * outside
    assert reproduce.point_verdict(found).startswith("1 of the 120" if outside else "Reproduced: none of the 120")


@pytest.mark.parametrize(("part", "rejected"), [(1.2, False), (0.8, True)])
def test_a_curve_is_rejected_if_its_p_is_below_the_level_divided_by_all_lessons(reproduce, part, rejected):
    results = fake_results(30)
    losses = np.array(results["lessons"]["he"]["test_loss"])

    def found(factor):
        return reproduce.compared(with_losses(results, "he", factor * losses))["by_curve"]

    factor = brentq(lambda factor: found(factor)["p"]["he"]["he"] - part * LEVEL / 6, 1, 1.1, xtol=1e-6)
    assert found(factor)["p"]["he"]["he"] == pytest.approx(part * LEVEL / 6, rel=0.15)  # the grid has steps
    words = reproduce.curve_verdict(found(factor), 30)
    assert ("curves are rejected: he (" in words) == rejected
    assert ("of the 6 published curves none is rejected" in words) != rejected


def test_what_was_missed_is_said(reproduce, results):
    found = reproduce.compared(results)
    assert reproduce.curve_limits(found["by_curve"]).endswith("all are rejected.")
    assert "no point is outside in 0 of 30 pairs." in reproduce.point_limits(found["by_point"])
    assert "30 of 30 are rejected." in reproduce.curve_verdict(found["by_curve"], 10)
    results["lessons"]["he"] = results["lessons"]["adam"]  # a lesson that is trained as another
    found = reproduce.compared(results)
    assert "1 of 30 pairs: the curve of adam against our runs of he." in reproduce.point_limits(found["by_point"])
    assert "all are rejected, except for he against adam (0 %), adam against he (0 %)." in reproduce.curve_limits(
        found["by_curve"]
    )
    words = reproduce.curve_verdict(found["by_curve"], 10)
    assert "are rejected: he (smallest p" in words
    assert "29 of 30 are rejected; not rejected: adam against he (p = " in words


def test_a_pair_that_is_not_rejected_is_named(reproduce, results):
    found = reproduce.compared(results)["by_curve"]
    found["p"]["mlp"]["he"] = 1.1 * LEVEL / 6
    assert "29 of 30 are rejected; not rejected: mlp against he (p = 0.0092)." in reproduce.curve_verdict(found, 10)


@pytest.mark.parametrize(
    ("seeds", "says"), [(9, "needs at least 10 seeds"), (12, "12 seeds (30 were"), (30, "30 seeds: ")]
)
def test_the_number_of_seeds_is_said(reproduce, seeds, says):
    words = reproduce.curve_verdict(reproduce.compared(fake_results(seeds))["by_curve"], seeds)
    assert says in words


def test_runs_that_diverged_are_not_compared(reproduce, results):
    entry = results["lessons"]["he"]
    entry["diverged"][2], entry["test_loss"][2], entry["test_correct"][2] = True, [None], [980]
    with pytest.raises(reproduce.UserError, match="diverged \\(he\\)"):
        reproduce.compared(results)


def test_recorded_numbers_follow_from_the_recorded_runs(reproduce, recorded):
    found = reproduce.compared({name: recorded[name] for name in recorded if not name.startswith("by_")})
    found = json.loads(json.dumps(found))
    assert set(found) == set(recorded)
    assert_same(found["by_point"], recorded["by_point"])
    assert_same(found["by_curve"], recorded["by_curve"])


def test_the_recorded_figure_follows_from_the_recorded_runs(reproduce, recorded):
    drawn = Image.open(io.BytesIO(reproduce.report(recorded)["reproduce_notebooks.png"]))
    shown = Image.open(RECORDED / "reproduce_notebooks.png")
    difference = np.abs(np.asarray(drawn.convert("L"), float) - np.asarray(shown.convert("L"), float))
    assert difference.mean() < 0.1  # of 255; text is drawn a little otherwise elsewhere


def assert_same(ours, theirs):
    """Equal, numbers but for rounding."""
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == (pytest.approx(theirs, rel=1e-6, abs=1e-15) if isinstance(ours, float) else theirs)


def test_recorded_no_lesson_s_own_curve_is_rejected_and_all_others_but_one_are(recorded):
    assert recorded["config"]["seeds"] == list(range(30))
    p = recorded["by_curve"]["p"]
    passed = [(row, column) for row, column in product(LESSONS, LESSONS) if p[row][column] >= LEVEL / 6]
    assert passed == sorted([*zip(LESSONS, LESSONS, strict=True), ("batch_norm", "adam")], key=passed.index)


def test_recorded_curves_of_ours_are_rejected_no_more_often_than_said(recorded):
    p = np.concatenate(list(recorded["by_curve"]["leave_one_out"].values()))
    assert p.size == 180
    assert (p < LEVEL).sum() <= stats.binom.ppf(0.999, p.size, LEVEL)


def test_from_end_to_end_on_tiny_data(reproduce, run_main, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "comparable", lambda *_: True)
    status, out, err = run_main(reproduce.main, "--data", toy_folder, "--seeds", 3, "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["by_point"]["points"]) == 120
    assert reproduce.point_verdict(results["by_point"]) in out
    assert "needs at least 10 seeds" in out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"checkpoints", "runs.jsonl", "results.json", "README.md", "reproduce_notebooks.png"}


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--seeds", "2"], "at least 3 seeds"), ([], "used all of MNIST, not unrecognised")]
)
def test_what_cannot_be_compared_is_refused(reproduce, run_main, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(reproduce.main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert says in err
    assert not (tmp_path / "out").exists()
