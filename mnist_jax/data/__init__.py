"""Where the digits come from: TFDS, a folder, or the sample that pip installs."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mnist_jax.data.arrays import Arrays, checked
from mnist_jax.data.sources import rank_in_class, read_arrays
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
      source: `tfds`, `sample`, `folder` or `arrays`.
      split: `slides` or `notebooks`.
      sha256: of all arrays before splitting.
      epoch_length: examples an epoch draws; more than `train` holds for the sample.
      where: folder of a `folder` or of TFDS's data, as the user named it; None where the user named none.
      notice: what the user must know about this data, or "".
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
        }


def load(source: str = "auto", split: str = "slides", data_dir: Path | None = None) -> Dataset:
    """The digits of `source`, split.

    Args:
      source: `tfds`, `sample`, `auto`, or a folder: four IDX files (also in torchvision's MNIST/raw), or a TFDS
        data folder. `auto` is TFDS if prepared, else TFDS downloaded, else the sample with a notice.
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
    if source == "tfds":
        return _split(arrays, source, split, where=data_dir)
    return _split(arrays, "folder", split, where=expand_user(Path(source)))


def from_arrays(train: Examples, test: Examples, split: str = "slides") -> Dataset:
    """The digits of numpy arrays, split as in `load`.

    Args:
      train: uint8 images and integer labels, the digits 0 to 9.
      test: the same.
      split: see `load`.

    Raises:
      UserError: other shapes, dtypes or labels, or an unknown split.
    """
    check_choice("split", split, SPLITS)
    return _split(checked(train, test, "The dataset"), "arrays", split)


def _split(arrays: Arrays, source: str, split: str, where: Path | None = None) -> Dataset:
    """`slides` holds out the last images of the training split, `notebooks` none.

    A twelfth of it: 5,000 of MNIST's 60,000. Of the sample a ninth, 500 of 4,500 and as many of each digit; its
    epoch draws as many examples as one of all of MNIST, so that the lessons mean the same.
    """
    count = arrays.train.size
    if source == "sample":
        held_out = rank_in_class(arrays.train.labels) >= 400
        epoch_length = 55_000 if split == "slides" else 60_000
    else:
        held_out = np.arange(count) >= count - count // 12
        epoch_length = count - count // 12 if split == "slides" else count
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
    )


def _part(examples: Examples, indices: Any) -> Examples:
    return Examples(examples.images[indices], examples.labels[indices])


def _sample_notice(reason: UserError) -> str:
    return (
        "This is NOT all of MNIST: it trains on a sample of 5,000 digits, so accuracies are some percent lower.\n"
        f"Why: {str(reason).split(';')[0]}.\n"
        "To get all of MNIST: `mnist-jax data --prepare` with a network, or `--data FOLDER` with its four files."
    )
