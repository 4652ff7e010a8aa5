"""What the six notebooks printed (published_curves.json says where and how)."""

import json
from importlib.resources import files

from mnist_jax.data import Dataset
from mnist_jax.lessons import LESSONS, Lesson

_CURVES = json.loads((files("mnist_jax") / "published_curves.json").read_text())


def notebook(lesson_id: str) -> str:
    """The name of the lesson's notebook, "2-1_MNIST_MLP"."""
    return str(_CURVES["lessons"][lesson_id]["notebook"])


def accuracies(lesson_id: str) -> list[float]:
    """Test accuracy after each of ten epochs, as fractions."""
    return [percent / 100 for percent in _CURVES["lessons"][lesson_id]["test_accuracy_percent"]]


def losses(lesson_id: str) -> list[float]:
    """Mean test cross-entropy after each of ten epochs, in nats.

    The notebooks add up the means of 313 batches and divide by the 10,000 images; this undoes it.
    """
    return [loss * 10_000 / 313 for loss in _CURVES["lessons"][lesson_id]["printed_test_loss"]]


def comparable(lesson_id: str, lesson: Lesson, data: Dataset, epochs: int) -> bool:
    """Whether a run is the notebook's: that lesson unchanged, on all of MNIST, split `notebooks`, at most 10 epochs."""
    return (
        lesson == LESSONS[lesson_id]
        and data.name == "MNIST"
        and data.split == "notebooks"
        and epochs <= len(accuracies(lesson_id))
    )
