"""What readers return: arrays, named by whether they are images or labels and of which split."""

import re
from collections.abc import Sequence

import numpy as np

from mnist_jax.lessons import CLASSES, DIGITS

# "train images", "test labels" and so on, or "images" and "labels" where the file's name says the split, if anything
# does; and "classes", the names of the classes in their order, where the form has them.
Pieces = dict[str, np.ndarray]

SPLITS = ("train", "test")
LONGEST_NAME = 40  # characters that are shown of a class's name, or of a cell


def classes_of(names: Sequence[str]) -> Pieces:
    """The piece `classes`, unless the names are digits, or those of another number of classes."""
    if len(names) != CLASSES or tuple(names) == DIGITS:
        return {}
    return {"classes": np.array(["".join(filter(str.isprintable, name))[:LONGEST_NAME] for name in names])}


def split_of(name: str) -> str | None:
    """`train` or `test` by the last such word in a name; `t10k` is the test split."""
    words = re.findall("train|t10k|(?<!la)test", name.lower())
    return {"train": "train", "t10k": "test", "test": "test", "": None}[words[-1] if words else ""]
