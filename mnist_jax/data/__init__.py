"""Where the digits come from: TFDS, a file or folder, or the sample that pip installs."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mnist_jax.data import tfds
from mnist_jax.data.arrays import Arrays, checked, last_part, rank_in_class
from mnist_jax.data.sources import read_arrays
from mnist_jax.errors import UserError, check_choice, expand_user
from mnist_jax.lessons import Lesson
from mnist_jax.train import Examples

Split = Literal["slides", "notebooks"]
SPLITS = get_args(Split)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three splits and where they came from.

    Attributes:
      train, validation, test: numpy arrays, `validation` None in split `notebooks`.
      name: what the arrays are by their SHA-256, "MNIST" for the canonical 70,000 digits.
      source: `tfds` or `tfds:NAME`, `sample`, `file`, `folder` or `arrays`.
      split: `slides` or `notebooks`.
      sha256: of all arrays before splitting.
      epoch_length: examples an epoch draws; more than `train` holds for the sample.
      where: path of a `file` or `folder`, or folder of TFDS's data, as the user named it; None where the user named
        none.
      notice: what the user must know about this data, or "".
      classes: names of the ten classes, or () where they are the digits 0 to 9.
    """

    train: Examples
    validation: Examples | None
    test: Examples
    name: str
    source: str
    split: str
    sha256: str
    epoch_length: int
    where: Path | None = None
    notice: str = ""
    classes: tuple[str, ...] = ()

    def steps(self, lesson: Lesson) -> int:
        """How many optimizer steps an epoch of this lesson takes, one for a last partial batch too."""
        return math.ceil(self.epoch_length / lesson.batch_size)

    def describe(self) -> dict[str, Any]:
        """What every recorded result says of its data."""
        return {
            "name": self.name,
            "source": self.source,
            "split": self.split,
            "train": self.train.size,
            "validation": 0 if self.validation is None else self.validation.size,
            "test": self.test.size,
            "epoch_length": self.epoch_length,
            "sha256": self.sha256,
            **({"classes": list(self.classes)} if self.classes else {}),
        }


def load(source: str = "auto", split: str = "slides", data_dir: Path | None = None) -> Dataset:
    """The digits of `source`, split.

    Args:
      source: `tfds`, which is its `mnist`, or `tfds:NAME`; `sample`; `auto`; or a file or folder in any form that
        docs/data.md lists. `auto` is TFDS's `mnist` if prepared, else downloaded, else the sample with a notice.
      split: `slides` holds out a twelfth of the training images for validation (5,000 of 60,000), `notebooks` none.
      data_dir: TFDS's folder; None is TFDS's default.

    Raises:
      UserError: whatever is wrong with source, split or files.
    """
    check_choice("split", split, SPLITS)
    if source == "auto":
        try:
            return load("tfds", split, data_dir)
        except UserError as error:
            return dataclasses.replace(load("sample", split), notice=_sample_notice(error))
    arrays = read_arrays(source, data_dir)
    if source == "sample":
        return _split(arrays, source, split)
    if tfds.name_of(source):
        return _split(arrays, source, split, where=data_dir)
    path = expand_user(Path(source))
    return _split(arrays, "folder" if path.is_dir() else "file", split, where=path)


def from_arrays(
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    *,
    split: str = "slides",
) -> Dataset:
    """The digits of numpy arrays, split as in `load`.

    Args:
      train_images: `[n, 28, 28]` or `[n, 784]`, also with an axis of one channel; whole numbers 0 to 255 of any type.
      train_labels: `[n]`, the digits 0 to 9 as numbers or strings.
      test_images: see `train_images`.
      test_labels: see `train_labels`.
      split: see `load`.

    Raises:
      UserError: other shapes, values or labels, or an unknown split.
    """
    check_choice("split", split, SPLITS)
    arrays = checked((train_images, train_labels), (test_images, test_labels), "The dataset")
    return _split(arrays, "arrays", split)


def _split(arrays: Arrays, source: str, split: str, where: Path | None = None) -> Dataset:
    """`slides` holds out the last images of the training split, `notebooks` none.

    A twelfth of it, see `last_part`: 5,000 of MNIST's 60,000. Of the sample a ninth, 500 of 4,500 and as many of each
    digit; its epoch draws as many examples as one of all of MNIST, so that the lessons mean the same.
    """
    count = arrays.train.size
    if source == "sample":
        held_out = rank_in_class(arrays.train.labels) >= 400
        epoch_length = 55_000 if split == "slides" else 60_000
    else:
        held_out = last_part(arrays.train.labels, 12)
        epoch_length = count - int(held_out.sum()) if split == "slides" else count
    if split == "notebooks":
        held_out = np.zeros(count, bool)
    return Dataset(
        train=_part(arrays.train, ~held_out),
        validation=_part(arrays.train, held_out) if held_out.any() else None,
        test=arrays.test,
        name=arrays.name,
        source=source,
        split=split,
        sha256=arrays.sha256,
        epoch_length=epoch_length,
        where=where,
        notice=arrays.notice,
        classes=arrays.classes,
    )


def _part(examples: Examples, indices: Any) -> Examples:
    return Examples(examples.images[indices], examples.labels[indices])


def _sample_notice(reason: UserError) -> str:
    return (
        "This is NOT all of MNIST but a sample of 5,000 digits: accuracies are some percentage points lower.\n"
        f"Why: {str(reason).split(';')[0]}.\n"
        "To get all of MNIST, run `mnist-jax data --prepare` once with a network, or\n"
        "`mnist-jax data --prepare --manual-dir PATH` with its four files in PATH; or name a copy with `--data PATH`."
    )
