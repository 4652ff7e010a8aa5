"""Figures with matplotlib, drawn without a display."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mnist_jax import published


def ladder_figure(lessons: Mapping[str, Mapping[str, Any]], compared: Sequence[str], title: str) -> bytes:
    """Test accuracy and test loss after each epoch, a line a lesson: a PNG.

    Args:
      lessons: id -> its entry in results.json. With several seeds the line is their mean, the band their range.
      compared: ids whose notebook's printed figures are drawn as points.
      title: says on what and how many runs.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    accuracy, loss = figure.subplots(1, 2)
    for number, (lesson_id, entry) in enumerate(lessons.items()):
        colour = f"C{number}"
        _band(accuracy, entry["test_accuracy"], 100, color=colour, label=lesson_id)
        _band(loss, entry["test_loss"], 1, color=colour, label=lesson_id)
        if lesson_id in compared:
            _points(accuracy, [100 * value for value in published.accuracies(lesson_id)], colour)
            _points(loss, published.losses(lesson_id), colour)
    if compared:
        accuracy.plot([], [], "o", color="grey", markersize=3, label="notebook")
    accuracy.set(xlabel="epoch", ylabel="test accuracy (percent)")
    loss.set(xlabel="epoch", ylabel="test loss (nats)", yscale="log")
    accuracy.legend(loc="lower right")
    for axes in (accuracy, loss):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    png = io.BytesIO()
    figure.savefig(png, dpi=120, format="png")
    return png.getvalue()


def _points(axes: Any, values: Sequence[float], colour: str) -> None:
    axes.plot(range(1, len(values) + 1), values, "o", color=colour, markersize=3)


def _band(axes: Any, runs: Sequence[Sequence[float | None]], scale: float, *, color: str, label: str) -> None:
    """Mean and range over runs; a run that ended early, or is not finite, counts for the epochs it has."""
    length = max(len(run) for run in runs)
    values = np.full((len(runs), length), np.nan)
    for row, run in zip(values, runs, strict=True):
        row[: len(run)] = [np.nan if value is None else value * scale for value in run]
    epochs = 1 + np.flatnonzero(np.isfinite(values).any(axis=0))
    values = values[:, epochs - 1]
    if epochs.size:
        axes.plot(epochs, np.nanmean(values, axis=0), color=color, label=label)
        axes.fill_between(epochs, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=color, alpha=0.2)
