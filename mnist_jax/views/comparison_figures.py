"""Figures of a comparison of optimizers, as PNG files that need no colours: lines, markers and hatches differ.

`results` are those of results.json, `found` and `tuning` come from `findings.pairs` and `findings.tuning`, and `title`
says what was compared.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import StrMethodFormatter

from mnist_jax.studies.findings import Pair
from mnist_jax.studies.inference import relation
from mnist_jax.studies.search import score
from mnist_jax.studies.stats import Interval
from mnist_jax.studies.tuning_curves import TuningCurves
from mnist_jax.views.figures import accuracy_scale, as_png
from mnist_jax.views.intervals import decimals, rounded

WIDTH = 8.0  # inches; a page shows this width without shrinking the text
SMALL = 9  # points, of the smallest text
FAR = 2.5  # logits below the best accuracy, as 83 % is below 98.4 %: lower accuracies are not distinguished
OVERLAID = 2  # optimizers of a net that share a panel; if there are more, each has its own


class Style(NamedTuple):
    """How one of the optimizers of a panel is drawn."""

    colour: str
    line: str
    marker: str
    hatch: str


STYLES = (
    Style("C0", "-", "o", "///"),
    Style("C1", "--", "s", "\\\\\\"),
    Style("C2", "-.", "^", "|||"),
    Style("C3", ":", "D", "---"),
)


class Panel(NamedTuple):
    """Axes, and the optimizers of a net drawn in them: label -> entry."""

    axes: Any
    net: str
    entries: Mapping[str, Any]


def tuning_curves_figure(
    tuning: Mapping[str, Mapping[str, TuningCurves]], results: Mapping[str, Any], title: str
) -> bytes:
    """Best validation accuracy against the number of trials: median with band, and expected.

    A band ends where it is open above: too few trials set no upper limit. What is far below the best is left out.
    """
    figure, panels = _panels(results, title)
    ends: list[float] = []
    budgets = np.arange(1, 1 + results["config"]["trials"])
    for axes, net, entries in panels:
        for label, style in zip(entries, STYLES, strict=False):
            curves = tuning[net][label]
            low, median, high = curves.median
            closed = slice(curves.open_above)
            axes.fill_between(
                budgets[closed], low[closed], high[closed], facecolor="none", edgecolor=style.colour, hatch=style.hatch
            )
            if 0 < curves.open_above < len(budgets):
                axes.plot(budgets[closed][-1], high[closed][-1], "^", color="black", markersize=8)
            axes.plot(budgets, low, color=style.colour, linestyle=style.line, linewidth=0.8)
            axes.plot(budgets, median, color=style.colour, linestyle=style.line, marker=style.marker, markersize=3.5)
            axes.plot(budgets, curves.expected.point, color=style.colour, linestyle=":")
            ends += [*low, *median, *high[closed]]
    lowest = _shifted(max(min(ends), _shifted(max(ends), -FAR)), -0.2)
    _validation_scale(panels, (lowest, _shifted(max(ends), 0.4)))
    for axes, net, entries in panels:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        _note_below(axes, [label for label in entries if max(tuning[net][label].median.point) < lowest])
    _labels(panels, "number of trials", "validation accuracy\nof the best trial")
    return _with_legend(figure, _of_curves(tuning, results), columns=3 if len(panels) > 1 else 1)


def _note_below(axes: Any, labels: Sequence[str]) -> None:
    """Name the optimizers whose median lies below the scale at all budgets."""
    if labels:
        words = f"{', '.join(map(_short, labels))}: median below this scale"
        axes.text(0.5, 0.03, words, transform=axes.transAxes, ha="center", fontsize=SMALL)


def _of_curves(tuning: Mapping[str, Mapping[str, TuningCurves]], results: Mapping[str, Any]) -> list[Any]:
    """The legend of tuning curves."""
    percent = f"{100 * results['config']['confidence']:g} %"
    together = all(len(curves) == OVERLAID for curves in tuning.values())
    level = f"{percent} for both together" if together else f"{percent} each"
    found = [(curves.open_above, len(curves.median.high)) for net in tuning.values() for curves in net.values()]
    mark = Line2D([], [], color="black", linestyle="", marker="^", markersize=8, label="open above beyond this budget")
    nothing = Line2D([], [], linestyle="", label="no band: open above at every budget")
    return [
        *_of_optimizers(results, "median", lines=True),
        Line2D([], [], color="grey", linestyle=":", label="expected"),
        Patch(facecolor="none", edgecolor="grey", hatch="///", label=f"band of the median, {level}"),
        Line2D([], [], color="grey", linewidth=0.8, label="its lower end"),
        *([mark] if any(0 < closed < count for closed, count in found) else []),
        *([nothing] if any(closed == 0 for closed, _ in found) else []),
    ]


def learning_rates_figure(results: Mapping[str, Any], title: str) -> bytes:
    """Validation accuracy against learning rate, one point per trial; those far below are at the lower edge."""
    images = results["data"]["validation"]
    figure, panels = _panels(results, title)
    found = [entry for _, _, entries in panels for entry in entries.values()]
    best = max(score(trial) for entry in found for trial in entry["trials"]) / images
    lowest, highest = _shifted(best, -FAR), _shifted(best, 0.5)
    for axes, _, entries in panels:
        for entry, style in zip(entries.values(), STYLES, strict=False):
            for trial in entry["trials"]:
                rate = trial["settings"]["learning_rate"]
                accuracy = max(trial["validation_correct"][-1] / images, lowest)
                face = style.colour if _is_scheduled(trial) else "none"
                marker = "x" if trial["diverged"] else style.marker
                draw = functools.partial(axes.plot, rate, accuracy, clip_on=False)
                draw(marker=marker, color=style.colour, markerfacecolor=face, markersize=4.5)
                if trial["number"] == 0:
                    draw(marker="D", color="black", markerfacecolor="none", markersize=9)
                if trial["number"] == entry["chosen"]:
                    draw(marker="o", color="black", markerfacecolor="none", markersize=12)
    _validation_scale(panels, (lowest, highest))
    for axes, *_ in panels:
        axes.set_xscale("log")
    _labels(panels, "learning rate", "validation accuracy\n(lower ones at the edge)")
    marks: dict[str, dict[str, Any]] = {
        "constant": {"marker": "o", "markerfacecolor": "none", "markersize": 4.5},
        "cosine or warm-up": {"marker": "o", "markersize": 4.5},
        "diverged": {"marker": "x", "markersize": 4.5},
        "trial 0": {"marker": "D", "markerfacecolor": "none", "markersize": 9},
        "chosen": {"marker": "o", "markerfacecolor": "none", "markersize": 12},
    }
    drawn = [Line2D([], [], color="black", linestyle="", label=label, **mark) for label, mark in marks.items()]
    return _with_legend(figure, [*_of_optimizers(results, lines=False), *drawn])


def differences_figure(found: Mapping[str, Sequence[Pair]], results: Mapping[str, Any], title: str) -> bytes:
    """All paired differences with their intervals; as a matrix for more than two optimizers of a net."""
    nets = list(found)
    if max(map(len, found.values())) > 1:
        size = 0.5 * max(len(entries) for entries in results["nets"].values()) + 2.3
        figure = _figure(title, max(size, 5.5), len(nets) * size + 0.8)
        for net, axes in zip(nets, figure.subplots(len(nets), squeeze=False)[:, 0], strict=True):
            _matrix(axes, found[net], results)
            axes.set_xlabel(f"{net}: row minus column, points of test accuracy", fontsize=SMALL + 1)
        drawn = [
            Patch(facecolor="0.8", edgecolor="black", label="shown to differ"),
            Patch(facecolor="none", edgecolor="black", hatch="...", label="the same within the margin"),
            Patch(facecolor="none", edgecolor="black", label="not shown to differ"),
        ]
        return _with_legend(figure, drawn, columns=1)
    return _forest(found, results, title)


def mechanism_figure(mechanism: Mapping[str, Any], title: str) -> bytes:
    """What each optimizer does to each layer during training: above, how far a step moves it; below, its gradient.

    Args:
      mechanism: label -> what `mechanism.follow` measured.
      title: says which net was trained, and how.
    """
    layers = list(next(iter(mechanism.values()))["layers"])
    figure = _figure(title, WIDTH, 5.2)
    panels = figure.subplots(2, len(layers), sharex=True, sharey="row", squeeze=False)
    for (label, run), style in zip(mechanism.items(), itertools.cycle(STYLES), strict=False):
        for column, layer in zip(panels.T, layers, strict=True):
            for axes, quantity in zip(column, ("update_to_weight", "gradient"), strict=True):
                values = np.array(run["layers"][layer][quantity], float)  # None is NaN
                values[values == 0] = np.nan  # a schedule that starts at 0
                axes.plot(
                    run["steps"], values, color=style.colour, linestyle=style.line, marker=style.marker, markersize=3.5,
                    markevery=3, label=label,
                )  # fmt: skip
                axes.set(xscale="log", yscale="log")
                axes.grid(alpha=0.3)
            column[0].set_title(layer, fontsize=SMALL + 1)
    panels[0, 0].set_ylabel("step: norm of the update\nover norm of the weights", fontsize=SMALL)
    panels[1, 0].set_ylabel("gradient: root mean square", fontsize=SMALL)
    for axes in panels[1]:
        axes.set_xlabel("steps of training")
    return _with_legend(figure, panels[0, 0].get_lines())


def _forest(found: Mapping[str, Sequence[Pair]], results: Mapping[str, Any], title: str) -> bytes:
    """One row per net, one interval per claim; the course's on a scale of their own."""
    figure = _figure(title, WIDTH, 0.6 * len(found) + 2.2)
    pairs = [of_net[0] for of_net in found.values()]
    panels = figure.subplots(1, 2 if any(pair.course for pair in pairs) else 1, sharey=True, squeeze=False)[0]
    places, limit = np.arange(len(pairs)), results["config"]["margin"]
    claims: list[tuple[Any, Sequence[Interval | None], float, str, str]] = [
        (panels[0], [pair.settings.points for pair in pairs], 0.15, "o", "S: chosen settings"),
        (panels[0], [pair.searches for pair in pairs], -0.15, "s", "B: what searches find"),
        (panels[-1], [pair.course for pair in pairs], 0.0, "D", "C: the course's settings"),
    ]
    for axes, gaps, shift, marker, label in claims:
        known = [(place - shift, gap) for place, gap in zip(places, gaps, strict=True) if gap]
        if not known:
            continue
        ends = np.array([[gap.mean - gap.low, gap.high - gap.mean] for _, gap in known]).T
        axes.errorbar(
            [gap.mean for _, gap in known], [place for place, _ in known], xerr=ends, fmt=marker, color="black",
            markersize=6, capsize=4, markerfacecolor="white" if marker == "s" else "black", label=label,
        )  # fmt: skip
    for axes in panels:
        if max(map(abs, axes.get_xlim())) > 10:  # points, as where a small net hardly learns with the course's settings
            axes.set_xscale("symlog", linthresh=1)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.axvline(0, color="black", linewidth=0.8)
        if limit:
            within = f"within {limit:g} points"
            axes.axvspan(-limit, limit, facecolor="0.93", edgecolor="0.75", hatch="...", label=within)
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=SMALL, frameon=False)
    panels[0].set_yticks(places, list(found))
    panels[0].invert_yaxis()
    figure.supxlabel(f"{pairs[0].first} minus {pairs[0].second}, points of test accuracy", fontsize=SMALL + 1)
    return as_png(figure)


def _matrix(axes: Any, found: Sequence[Pair], results: Mapping[str, Any]) -> None:
    """Claim S below the diagonal and claim B above it, each as `mean ± half of the interval`."""
    labels = sorted({label for pair in found for label in (pair.first, pair.second)}, key=_short)
    count, limit = len(labels), results["config"]["margin"]
    for pair in found:
        row, column = labels.index(pair.first), labels.index(pair.second)
        for is_below, gap in ((True, pair.settings.points), (False, pair.searches)):
            swap = (row > column) != is_below
            y, x = (column, row) if swap else (row, column)
            _cell(axes, x, y, gap.times(-1) if swap else gap, limit)
    for place in range(count):
        axes.add_patch(_square(place, place, facecolor="black"))
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
    axes.set_xticks(range(count), map(_short, labels), rotation=90, fontsize=SMALL)
    axes.set_yticks(range(count), map(_short, labels), fontsize=SMALL)
    axes.xaxis.tick_top()
    axes.set_title("below the diagonal: S, chosen settings; above: B, what searches find", fontsize=SMALL)


def _cell(axes: Any, x: int, y: int, gap: Interval, limit: float | None) -> None:
    said = relation(gap, limit)
    hatch = "..." if said == "the same within the margin" else None
    axes.add_patch(_square(x, y, facecolor="0.8" if gap.excludes_zero else "none", hatch=hatch, edgecolor="0.6"))
    places = decimals(gap, limit)
    words = f"{rounded(gap.mean, places, '+')}\n±{rounded(gap.high - gap.mean, places)}"
    axes.text(x, y, words, ha="center", va="center", fontsize=SMALL)


def _square(x: int, y: int, **style: Any) -> Any:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, **style)


def _figure(title: str, width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=SMALL, wrap=True)
    return figure


def _panels(results: Mapping[str, Any], title: str) -> tuple[Figure, list[Panel]]:
    """A panel per net, or per optimizer of a net that has more than `OVERLAID`."""
    groups: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for net, entries in results["nets"].items():
        if len(entries) <= OVERLAID:
            groups[net] = net, entries
        else:
            prefix = "" if len(results["nets"]) == 1 else f"{net}: "
            groups |= {
                f"{prefix}{_short(label)}": (net, {label: entries[label]}) for label in sorted(entries, key=_short)
            }
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = _figure(title, WIDTH if columns > 1 else 5.5, 2.2 * rows + 1.6)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = []
    for axes, (name, shown) in zip(grid.flat, groups.items(), strict=False):
        axes.set_title(name, fontsize=SMALL + 1)
        axes.grid(alpha=0.3)
        panels.append(Panel(axes, *shown))
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    return figure, panels


def _labels(panels: Sequence[Panel], below: str, beside: str) -> None:
    """Label the outer axes."""
    grid = panels[0].axes.get_subplotspec().get_gridspec()
    for place, (axes, *_) in enumerate(panels):
        if place + grid.ncols >= len(panels):
            axes.set_xlabel(below)
            axes.xaxis.set_tick_params(labelbottom=True)
        if place % grid.ncols == 0:
            axes.set_ylabel(beside)


def _validation_scale(panels: Sequence[Panel], ends: tuple[float, float]) -> None:
    """Show accuracies on a logit scale between these ends."""
    for axes, *_ in panels:
        accuracy_scale(axes)
        axes.set_ylim(*ends)


def _shifted(accuracy: float, logits: float) -> float:
    """An accuracy whose logit is higher by `logits`; 0 and 1 count as 0.001 and 0.999."""
    odds = np.clip(accuracy, 0.001, 0.999) / (1 - np.clip(accuracy, 0.001, 0.999)) * np.exp(logits)
    return float(odds / (1 + odds))


def _of_optimizers(results: Mapping[str, Any], what: str = "", *, lines: bool) -> list[Line2D]:
    """Legend entries of the optimizers, named if they share panels."""
    labels = list(next(iter(results["nets"].values())))
    shown = [_short(label) for label in labels] if len(labels) <= OVERLAID else [""]
    names = [", ".join(filter(None, (label, what))) for label in shown]
    styles: Sequence[Any] = STYLES
    return [
        Line2D([], [], color=colour, linestyle=line if lines else "", marker=marker, markersize=4.5, label=name)
        for name, (colour, line, marker, _) in zip(names, styles, strict=False)
        if name
    ]


def _with_legend(figure: Figure, handles: Sequence[Any], columns: int = 4) -> bytes:
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), fontsize=SMALL)
    return as_png(figure)


def _is_scheduled(trial: Mapping[str, Any]) -> bool:
    settings = trial["settings"]
    return settings.get("schedule") == "cosine" or bool(settings.get("warmup_fraction"))


def _short(label: str) -> str:
    return label.replace("contrib.", "")
