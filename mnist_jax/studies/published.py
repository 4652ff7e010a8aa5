"""What the six notebooks printed (published_curves.json says where and how)."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np

_LOSS_SCALE = 10_000 / 313
# Resolution of the printed numbers: accuracies count 10,000 images, losses have four decimals.
ACCURACY_STEP = 1e-4
LOSS_STEP = 1e-4 * _LOSS_SCALE

_CURVES = json.loads((files("mnist_jax.studies") / "published_curves.json").read_text())


def notebook(lesson_id: str) -> str:
    """The name of the lesson's notebook, "2-1_MNIST_MLP"."""
    return str(_CURVES["lessons"][lesson_id]["notebook"])


def accuracies(lesson_id: str) -> list[float]:
    """Test accuracy after each of ten epochs, as fractions."""
    return [percent / 100 for percent in _CURVES["lessons"][lesson_id]["test_accuracy_percent"]]


def losses(lesson_id: str) -> list[float]:
    """Mean test cross-entropy after each of ten epochs, in nats.

    The notebooks add up the means of 313 batches and divide by the 10,000 images; this is undone here. The last batch
    has 16 images, each of which counts twice; this is not undone: it makes our nets' losses 0.05 to 0.16 % smaller.
    """
    return [loss * _LOSS_SCALE for loss in _CURVES["lessons"][lesson_id]["printed_test_loss"]]


def as_printed(accuracy: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Our curves, rounded as the notebooks print theirs.

    Args:
      accuracy: fractions.
      loss: mean test cross-entropy in nats.
    """
    return np.round(accuracy, 4), np.round(loss / _LOSS_SCALE, 4) * _LOSS_SCALE


def comparable(data: Mapping[str, Any], epochs: int) -> bool:
    """Whether a run's data and length are the notebooks': all of MNIST, split `notebooks`, 1 to 10 epochs.

    Args:
      data: `Dataset.describe()`, as results.json holds it.
      epochs: number of epochs of the run.
    """
    return data["name"] == "MNIST" and data["split"] == "notebooks" and 1 <= epochs <= len(accuracies("mlp"))
