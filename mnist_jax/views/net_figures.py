"""Pictures of one trained net: what it confuses, how sure it is, and its weights."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from scipy.stats import binomtest

from mnist_jax.lessons import CLASSES, DIGITS, IMAGE_SHAPE
from mnist_jax.studies.stats import Bin
from mnist_jax.views.figures import as_png

MOST_UNITS = 48  # units of the first layer that are shown


def confusion_figure(counts: np.ndarray, classes: Sequence[str] = DIGITS) -> bytes:
    """How often each class was taken for each, as a PNG; a mistake's colour shows its share of the row.

    Args:
      counts: integers `[10, 10]`, one row per class, one column per answer.
      classes: names of the classes.
    """
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    mistakes = np.where(np.eye(CLASSES, dtype=bool), 0, counts) / np.maximum(counts.sum(1, keepdims=True), 1)
    dark = matplotlib.rcParams["axes.facecolor"] == "black"
    axes.imshow(mistakes, cmap="magma" if dark else "Reds", vmin=0, vmax=max(2 * mistakes.max(), 1e-9))
    for row, column in np.ndindex(counts.shape):
        weight = "bold" if row == column else "normal"
        if counts[row, column]:
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize="small", weight=weight)
    axes.set(xlabel="answer", ylabel="digit" if classes == DIGITS else "class")
    ticks = classes if all(map(str.isascii, classes)) else DIGITS  # the font lacks the characters of most scripts
    axes.set_xticks(range(CLASSES), ticks, rotation=0 if max(map(len, ticks)) == 1 else 90, parse_math=False)
    axes.set_yticks(range(CLASSES), ticks, parse_math=False)
    axes.tick_params(length=0)
    return as_png(figure)


def calibration_figure(bins: Sequence[Bin]) -> bytes:
    """Share of right answers against the probability that the net gave them, as a PNG.

    A point's area grows with the number of answers in its bin; its bar is a 95 % interval (Wilson's).
    """
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    count, confidence, accuracy = (np.array(column) for column in zip(*bins, strict=True))
    intervals = [
        binomtest(round(found.accuracy * found.size), found.size).proportion_ci(method="wilson") for found in bins
    ]
    beyond = np.abs(accuracy - np.array([[interval.low, interval.high] for interval in intervals]).T)
    axes.plot([0, 1], [0, 1], ":", color="grey", label="as often right as it says")
    axes.errorbar(confidence, accuracy, beyond, fmt="none", color="C0", alpha=0.6)
    axes.scatter(confidence, accuracy, s=20 + 300 * count / count.sum(), color="C0", alpha=0.8)
    axes.set(xlabel="probability of the answer", ylabel="share of right answers", xlim=(0, 1.05), ylim=(0, 1.05))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    return as_png(figure)


def first_layer_figure(kernel: np.ndarray) -> bytes:
    """The weights from the 784 pixels to the units of the first layer, one picture per unit, as a PNG.

    Red adds where there is ink, blue subtracts; all share one scale, which holds 99 % of the weights.

    Args:
      kernel: float `[784, units]`; the `MOST_UNITS` units with the largest weights are shown.
    """
    strongest = np.argsort(-np.linalg.norm(kernel, axis=0), kind="stable")[:MOST_UNITS]
    columns = min(8, len(strongest))
    rows = math.ceil(len(strongest) / columns)
    height, width = IMAGE_SHAPE
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for number, unit in enumerate(strongest):
        row, column = divmod(number, columns)
        top, left = row * (height + 1), column * (width + 1)
        sheet[top : top + height, left : left + width] = kernel[:, unit].reshape(IMAGE_SHAPE)
    limit = max(float(np.percentile(np.abs(kernel), 99)), 1e-9)
    figure = Figure(figsize=(5, 5 * sheet.shape[0] / sheet.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return as_png(figure)


def weights_figure(initial: Mapping[str, np.ndarray] | None, final: Mapping[str, np.ndarray]) -> bytes:
    """Densities of each dense kernel's weights before and after training, on a logarithmic scale, as a PNG.

    Args:
      initial: layer -> kernel, float `[in, out]`; None if unknown.
      final: layer -> kernel.
    """
    figure = Figure(figsize=(5, 0.6 + 1.5 * len(final)), layout="constrained")
    panels = figure.subplots(len(final), 1, squeeze=False)[:, 0]
    for axes, (layer, kernel) in zip(panels, final.items(), strict=True):
        limit = max(float(np.abs(values[layer]).max()) for values in (initial or final, final)) or 1.0
        if initial is not None:
            axes.stairs(*np.histogram(initial[layer], 81, (-limit, limit), density=True), label="initial")
        trained = np.histogram(kernel, 81, (-limit, limit), density=True)
        axes.stairs(*trained, fill=True, alpha=0.5, color="C1", label="trained")
        axes.set(ylabel=layer, yscale="log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_yticks([])
    figure.axes[0].legend(fontsize="small", loc="upper right")
    figure.axes[-1].set(xlabel="weight")
    return as_png(figure)
