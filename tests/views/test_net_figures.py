"""Figures of one net, and what is counted for them."""

import numpy as np
import pytest

from mnist_jax.data.arrays import CLASS_NAMES
from mnist_jax.studies.stats import Bin, calibration, expected_calibration_error
from mnist_jax.views.net_figures import calibration_figure, confusion_figure, first_layer_figure, weights_figure
from mnist_jax.views.report import confusion_picture


def test_confusion_text_and_axes():
    labels, answers = np.array([4] * 5 + [9] * 2 + [1]), np.array([9] * 3 + [4] * 4 + [1])
    assert "most often 4 taken for 9 (3 times), 9 taken for 4 (2 times)." in confusion_picture(labels, answers).alt
    assert confusion_picture(labels, labels).caption == "No digit is taken for another."
    named = confusion_picture(labels, answers, CLASS_NAMES["Fashion-MNIST"])
    assert "Which class is taken for which; most often coat taken for ankle boot (3 times)" in named.caption
    assert named.light != confusion_picture(labels, answers).light


@pytest.mark.parametrize("name", ["$\\no such$", "\N{HANGUL SYLLABLE BA}\N{HANGUL SYLLABLE JI}", ""])
def test_any_name_of_a_class_makes_a_figure(name):
    labels = np.arange(10)
    assert confusion_picture(labels, labels[::-1], (name, *CLASS_NAMES["Fashion-MNIST"][1:])).light


def test_calibration_counts_every_answer_once():
    rng = np.random.default_rng(0)
    confidence = np.array([*rng.uniform(0.1, 1, 997), 0.0, 1.0, 0.1])
    correct = rng.random(1000) < confidence
    bins = calibration(confidence, correct)
    assert sum(found.size for found in bins) == 1000
    assert sum(found.size * found.accuracy for found in bins) == pytest.approx(correct.sum())
    assert all(abs(found.accuracy - found.confidence) < 0.15 for found in bins if found.size > 50)
    assert expected_calibration_error(bins) < 0.05


def test_the_calibration_error_is_the_mean_gap():
    bins = [Bin(10, 0.9, 0.8), Bin(30, 0.5, 0.7)]
    assert expected_calibration_error(bins) == pytest.approx((10 * 0.1 + 30 * 0.2) / 40)


def test_figures_of_edge_cases():
    """All right, all wrong, a class that never comes, one unit, weights of zero."""
    assert confusion_figure(np.diag(np.arange(10)))
    assert confusion_figure(np.zeros((10, 10), int))
    assert calibration_figure([Bin(1, 1.0, 1.0)])
    assert calibration_figure([Bin(5, 0.2, 0.0), Bin(1, 1.0, 1.0)])
    assert first_layer_figure(np.zeros((784, 1)))
    assert weights_figure(None, {"fc1": np.zeros((784, 1))})
