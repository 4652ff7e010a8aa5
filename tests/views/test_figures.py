"""Axes of the figures always have ticks that can be read."""

import pytest
from matplotlib.figure import Figure

from mnist_jax.views import figures


def labels_in_view(scale, low, high):
    """The tick labels that are seen where all values are between these."""
    figure = Figure()
    axes = figure.subplots()
    scale(axes)
    axes.plot([1, 2], [low, high])
    figure.draw_without_rendering()
    bottom, top = axes.get_ylim()
    return [
        label.get_text()
        for label, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        if bottom <= tick <= top
    ]


@pytest.mark.parametrize(
    ("low", "high"), [(0.829, 0.851), (0.9551, 0.9602), (0.981, 0.9812), (0.9, 0.9), (0.1, 0.98), (0.991, 0.9995)]
)
def test_accuracies_between_two_usual_ticks_have_labels(low, high):
    labels = labels_in_view(figures.accuracy_scale, low, high)
    assert len(set(labels)) == len(labels) > 1
    assert all(label.endswith("%") and len(label) < 10 for label in labels)


def test_accuracies_of_the_ladder_have_the_usual_ticks():
    assert labels_in_view(figures.accuracy_scale, 0.6, 0.985) == ["70%", "80%", "90%", "95%", "97%", "98%"]


@pytest.mark.parametrize(("low", "high"), [(0.55, 0.9), (0.21, 0.24), (0.06, 2.3), (3.1, 4.9)])
def test_losses_between_two_usual_ticks_have_labels(low, high):
    labels = labels_in_view(figures._loss_scale, low, high)
    assert len(set(labels)) == len(labels) > 1
