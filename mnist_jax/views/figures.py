"""Figures as PNG files, drawn by Matplotlib without a display.

`results` are those of results.json; `title` says what was run, on which data and with how many seeds.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    Locator,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)

from mnist_jax.lessons import position
from mnist_jax.studies import published
from mnist_jax.studies.stats import fractions, gain_interval, ladder_gains

# Line styles of the lessons, in the course's order, which differ without colours, too.
_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1)), (0, (4, 1, 1, 1, 1, 1)))


def ladder_figure(results: Mapping[str, Any], title: str) -> bytes:
    """Test accuracy and test loss after each epoch, one line per lesson.

    With several seeds the line is their mean and the band their range; if data and split allow the comparison, points
    show what the notebooks printed.
    """
    epochs = results["config"]["epochs"]
    compared = published.comparable(results["data"], epochs)
    figure, accuracy, loss = _two_panels(title)
    for number, (lesson_id, entry) in enumerate(results["lessons"].items()):
        colour = f"C{number}"
        style = _STYLES[position(lesson_id)]
        right = fractions(entry["test_correct"], results["data"]["test"])
        _band(accuracy, right, color=colour, label=lesson_id, style=style)
        _band(loss, entry["test_loss"], color=colour, label=lesson_id, style=style)
        if compared:
            numbers = range(1, epochs + 1)
            accuracy.plot(numbers, published.accuracies(lesson_id)[:epochs], "o", color=colour, markersize=3)
            loss.plot(numbers, published.losses(lesson_id)[:epochs], "o", color=colour, markersize=3)
    if compared:
        accuracy.plot([], [], "o", color="grey", markersize=3, label="notebook")
    if len(results["config"]["seeds"]) > 1:
        accuracy.fill_between([], [], [], color="grey", alpha=0.25, label="range over seeds")
    accuracy.legend(loc="lower right", ncols=2)
    return as_png(figure)


def curves_of_lessons(curves: Mapping[str, Sequence[Sequence[float | None]]], what: str) -> bytes:
    """Test accuracy or test loss of each lesson after each epoch, mean and range over seeds.

    Args:
      curves: lesson -> a curve for each seed; accuracies are fractions, losses nats.
      what: `accuracy` or `loss`.
    """
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    if what == "accuracy":
        accuracy_scale(axes)
        axes.set(ylabel="test accuracy")
    else:
        _loss_scale(axes)
        axes.set(ylabel="test loss (nats)")
    for lesson_id, runs in curves.items():
        place = position(lesson_id)
        _band(axes, runs, color=f"C{place}", label=lesson_id, style=_STYLES[place], marker=".")
    _by_epoch(axes)
    axes.legend(loc="lower right" if what == "accuracy" else "upper right", fontsize="small")
    return as_png(figure)


def gains_figure(results: Mapping[str, Any], title: str) -> bytes | None:
    """What each lesson's change gained in test accuracy after each epoch, in percentage points.

    One line per lesson: the mean over seeds of its accuracy minus that of the lesson before; with several seeds the
    band is the 95 % confidence interval of the paired difference. None if no two neighbouring lessons were run.
    """
    gains = ladder_gains(results)
    if not gains:
        return None
    figure = _titled(f"{title}; each panel has a scale of its own", 2.4 * len(gains) + 1, 3.4)
    panels = figure.subplots(1, len(gains), squeeze=False)[0]
    for axes, ((before, after), by_epoch) in zip(panels, gains.items(), strict=True):
        epochs = range(1, 1 + len(by_epoch))
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.plot(epochs, np.mean(by_epoch, axis=1), color=f"C{position(after)}")
        if len(by_epoch[0]) > 1:
            intervals = [gain_interval(results, differences) for differences in by_epoch]
            axes.fill_between(epochs, [i.low for i in intervals], [i.high for i in intervals], color="grey", alpha=0.4)
        axes.set(title=f"{after} minus {before}")
        _by_epoch(axes)
    band = "\nmean, 95 % interval" if len(results["config"]["seeds"]) > 1 else ""
    figure.axes[0].set(ylabel=f"gain (percentage points){band}")
    return as_png(figure)


def reproduction_figure(points: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """Published points over the range of our seeds, and below them their z-scores.

    `points` are those of `by_point` in reproduce_notebooks' results.json.
    """
    figure = _titled(title, 11, 7.5)
    panels = figure.subplots(2, 2, height_ratios=[2, 1], sharex=True)
    for column, what in enumerate(("accuracy", "loss")):
        curve, scores = panels[:, column]
        for number, lesson_id in enumerate(dict.fromkeys(point["lesson"] for point in points)):
            chosen = [point for point in points if (point["lesson"], point["what"]) == (lesson_id, what)]
            epochs, mean, lowest, highest, printed, z = (
                [point[field] for point in chosen] for field in ("epoch", "mean", "lowest", "highest", "published", "z")
            )
            colour = f"C{number}"
            curve.plot(epochs, mean, linestyle=_STYLES[position(lesson_id)], color=colour, label=lesson_id)
            curve.fill_between(epochs, lowest, highest, color=colour, alpha=0.25)
            curve.plot(epochs, printed, "o", color=colour, markersize=3.5)
            scores.plot(epochs, z, "o-", color=colour, markersize=3, linewidth=0.7)
        scores.axhline(0, color="grey", linewidth=0.7)
        scores.set(xlabel="epoch", ylabel=f"z of the notebook's {what}")
        scores.grid(alpha=0.3)
        curve.grid(alpha=0.3)
    accuracy, loss = panels[0]
    _accuracy_and_loss(accuracy, loss)
    accuracy.plot([], [], "o", color="grey", markersize=3.5, label="notebook")
    accuracy.fill_between([], [], [], color="grey", alpha=0.25, label="range over seeds")
    accuracy.legend(loc="lower right", ncols=2)
    return as_png(figure)


def initialisation_figure(nets: Mapping[str, Any], steps: Sequence[int], title: str) -> bytes:
    """Variances of pre-activations (above) and of gradients (below) during training, one column per kind of net.

    One colour per layer, solid for He, dashed for PyTorch's default; means over seeds. Rings are the theory for the
    start. `nets` maps "ACTIVATION[, batch norm], INITIALISATION" to `theory`, `preactivation` and `gradient`, measured
    after these `steps`, where 0 is the start.
    """
    kinds = list(dict.fromkeys(name.rsplit(", ", 1)[0] for name in nets))
    figure = _titled(title, 3.4 * len(kinds), 6.5)
    panels = figure.subplots(2, len(kinds), sharex=True, sharey="row", squeeze=False)
    for (kind, column), (initialisation, style) in itertools.product(
        zip(kinds, panels.T, strict=True), (("he", "-"), ("pytorch", "--"))
    ):
        net = nets[f"{kind}, {initialisation}"]
        for axes, quantity in zip(column, ("preactivation", "gradient"), strict=True):
            predicted = net["theory"][quantity]
            by_step = np.mean(net[quantity]["variance"], axis=0)
            for layer, value in enumerate(predicted):
                label = f"fc{layer + 1}, {initialisation}"
                axes.plot(range(len(steps)), by_step[:, layer], style, color=f"C{layer}", label=label)
                axes.plot(0, value, "o", color=f"C{layer}", markerfacecolor="none")
            axes.set(yscale="log")
            axes.grid(alpha=0.3)
            axes.set_xticks(range(len(steps)), [f"{step:,}" for step in steps])
        column[0].set(title=kind)
        column[1].set(xlabel="steps")
    panels[0, 0].set(ylabel="variance of pre-activations")
    panels[1, 0].set(ylabel="variance of gradients")
    panels[0, 0].plot([], [], "o", color="grey", markerfacecolor="none", label="theory")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    return as_png(figure)


def speed_figure(scaling: Mapping[str, Any], title: str) -> bytes:
    """How an epoch's seconds grow: one panel per quantity, one colour per lesson.

    Points are medians over repeats, bands their range, and dotted lines proportional to `work`. `scaling` maps each of
    examples, batch_size and width to `values`, `work`, and `seconds`: lesson -> repeats for each value.
    """
    words = {
        "examples": ("examples per epoch", "examples", "upper left"),
        "batch_size": ("examples per batch", "steps", "upper right"),
        "width": ("hidden widths, times (512, 256)", "parameters", "upper left"),
    }
    figure = _titled(title, 12, 4.2)
    for axes, (varied, panel) in zip(figure.subplots(1, len(scaling), squeeze=False)[0], scaling.items(), strict=True):
        values, work, (label, unit, free) = panel["values"], np.array(panel["work"]), words[varied]
        expected: list[Any] = []
        for lesson_id, repeats in panel["seconds"].items():
            colour, seconds = f"C{position(lesson_id)}", np.array(repeats)
            medians = np.median(seconds, axis=1)
            axes.plot(values, medians, "o-", color=colour, markersize=3, label=lesson_id)
            axes.fill_between(values, seconds.min(1), seconds.max(1), color=colour, alpha=0.25)
            expected.append((values, work * (medians / work)[work.argmax()], colour))
        axes.set(xscale="log", yscale="log", xlabel=label)
        axes.autoscale(False)  # to what was measured
        for *line, colour in expected:
            axes.plot(*line, ":", color=colour)
        axes.plot([], [], ":", color="grey", label=f"in proportion to {unit}")
        axes.set_xticks(values, [f"{value:,g}" for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
        _plain_ticks(axes)
        axes.grid(alpha=0.3)
        axes.legend(loc=free, fontsize="small")
    figure.axes[0].set(ylabel="seconds per epoch")
    return as_png(figure)


def _two_panels(title: str) -> tuple[Figure, Any, Any]:
    """A figure with axes for accuracy and for loss over epochs."""
    figure = _titled(title, 11, 4.5)
    accuracy, loss = figure.subplots(1, 2)
    _accuracy_and_loss(accuracy, loss)
    for axes in (accuracy, loss):
        _by_epoch(axes)
    return figure, accuracy, loss


def _titled(title: str, width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize="small", wrap=True)
    return figure


def _by_epoch(axes: Any) -> None:
    axes.set(xlabel="epoch")
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _accuracy_and_loss(accuracy: Any, loss: Any) -> None:
    accuracy_scale(accuracy)
    accuracy.set(ylabel="test accuracy")
    _loss_scale(loss)
    loss.set(ylabel="test loss (nats)")


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG file, in the current colours of `matplotlib.rcParams`: a page has light and dark ones."""
    png = io.BytesIO()
    figure.savefig(png, dpi=120, format="png")
    return png.getvalue()


class _Ticks(Locator):
    """The usual ticks, or evenly spaced ones if fewer than two of the usual ones are in view."""

    def __init__(self, usual: Locator) -> None:
        self.usual = usual

    def set_axis(self, axis: Any) -> None:
        super().set_axis(axis)
        self.usual.set_axis(axis)

    def __call__(self) -> Any:
        return self.tick_values(*self.axis.get_view_interval())  # type: ignore[union-attr]

    def tick_values(self, vmin: float, vmax: float) -> Any:
        usual = [tick for tick in self.usual.tick_values(vmin, vmax) if vmin <= tick <= vmax]
        even = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
        return usual if len(usual) > 1 else [tick for tick in even if vmin <= tick <= vmax]


def accuracy_scale(axes: Any) -> None:
    """Show fractions on a logit scale, on which 97 and 98 % are as far apart as 80 and 86 %; ticks in percent."""
    axes.set_yscale("logit", nonpositive="mask")
    axes.yaxis.set_major_locator(_Ticks(FixedLocator([0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99])))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
    axes.yaxis.set_minor_locator(NullLocator())


def _loss_scale(axes: Any) -> None:
    axes.set_yscale("log")
    _plain_ticks(axes)


def _plain_ticks(axes: Any) -> None:
    """Label a logarithmic scale with plain numbers at 1, 2 and 5."""
    axes.yaxis.set_major_locator(_Ticks(LogLocator(subs=(1, 2, 5))))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _band(
    axes: Any, runs: Sequence[Sequence[float | None]], *, color: str, label: str, style: Any, marker: str = ""
) -> None:
    """Draw mean and range over runs; one that ended early, or diverged, counts for the epochs that it has."""
    length = max(len(run) for run in runs)
    values = np.full((len(runs), length), np.nan)
    for row, run in zip(values, runs, strict=True):
        row[: len(run)] = [np.nan if value is None else value for value in run]
    epochs = 1 + np.flatnonzero(np.isfinite(values).any(axis=0))
    values = values[:, epochs - 1]
    if epochs.size:
        axes.plot(epochs, np.nanmean(values, axis=0), linestyle=style, marker=marker, color=color, label=label)
        axes.fill_between(epochs, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=color, alpha=0.2)
