"""Digits as a source stores them: checked arrays, identified by their SHA-256."""

import dataclasses
import hashlib
import math
from typing import Any

import numpy as np

from mnist_jax.errors import UserError
from mnist_jax.lessons import CLASSES, IMAGE_SHAPE, PIXELS
from mnist_jax.train import Examples

# SHA-256 of the arrays (`digest`) -> what they are. TFDS keeps its examples in an order of its own.
KNOWN = {
    "25c98f992c005963b7428e1f38418b233c9b286cc403519287eb8063f0bcfe07": "MNIST",
    "8d55194a4946d8cf7678cfed1846bc104a3440e8195d16b3295d5feebc6b6e04": "MNIST",
    "eee656c63c1c7a3b7c885d28c97fd74dc039264ce75eae7cb8d991df379ef736": "Fashion-MNIST",  # the authors' four files
    "dd219072a66406ad6faa2552d6650023532519294d9653aef45f095ae8f0770d": "Fashion-MNIST",
    "d7a0aca7ffff4247002ef8ec10bb26348ff47025083ac25d82cd4ab948518319": "sample of MNIST",
}
NOT_KNOWN = "not known by name"

# Source: the README of github.com/zalandoresearch/fashion-mnist.
CLASS_NAMES = {
    "Fashion-MNIST": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
}

MOST_BYTES = 2**30  # of one array as it is stored: no header can make us allocate more


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A source as it is stored: training and test examples, not yet split further.

    Attributes:
      train, test: numpy arrays, uint8.
      sha256: of them, see `digest`.
      form: what they were read from, in words.
      classes: names of the ten classes, or () where they are the digits 0 to 9.
      notice: what the user must know about how they were read, or "".
    """

    train: Examples
    test: Examples
    sha256: str
    form: str = "arrays"
    classes: tuple[str, ...] = ()
    notice: str = ""

    @property
    def name(self) -> str:
        """What they are by their SHA-256."""
        return KNOWN.get(self.sha256, NOT_KNOWN)


def digest(train: Examples, test: Examples) -> str:
    """SHA-256 over shape and bytes of the four arrays, labels as uint8."""
    sha = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def checked(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], where: str) -> Arrays:
    """Checked arrays: 28 x 28 bytes, as many labels, all of ten classes.

    Args:
      train: images and labels in any shape and type that `as_pixels` and `as_digits` take.
      test: the same.
      where: what holds them, for error messages.

    Raises:
      UserError: they are anything else.
    """
    splits = []
    for split, (images, labels) in (("train", train), ("test", test)):
        pixels, digits = as_pixels(images, where), as_digits(labels, where)
        if len(pixels) != len(digits):
            raise UserError(
                f"{where} holds {len(pixels)} {split} images but {len(digits)} labels; every image needs one label."
            )
        if len(pixels) == 0:
            raise UserError(f"{where} holds no {split} images; at least one is needed.")
        splits.append(Examples(pixels, digits))
    train_part, test_part = splits
    if train_part.images.max() <= 1:
        raise UserError(_other_values(train_part.images, where))
    if train_part.labels.min() == train_part.labels.max():
        raise UserError(
            f"{where} gives all training images the label {train_part.labels[0]}; check which file or column holds the "
            "labels."
        )
    notice = ""
    if np.median(train_part.images[:, 0]) > 127:  # the upper rim
        notice = (
            f"The images of {where} are dark on light; MNIST's are light on dark, and so are those that `predict` and "
            "`demo` show a net."
        )
    sha256 = digest(train_part, test_part)
    return Arrays(train_part, test_part, sha256, classes=CLASS_NAMES.get(KNOWN.get(sha256, ""), ()), notice=notice)


def as_pixels(images: np.ndarray, where: str) -> np.ndarray:
    """Images as uint8 `[n, 28, 28]`.

    Args:
      images: `[n, 28, 28]`, with an axis of one channel or without, or `[n, 784]`; any type of numbers, of which all
        are whole and 0 to 255.
      where: what holds them, for error messages.

    Raises:
      UserError: they are anything else.
    """
    images = np.asarray(images)
    shape = images.shape[1:]
    if images.ndim == 0 or shape not in (IMAGE_SHAPE, (PIXELS,), (*IMAGE_SHAPE, 1), (1, *IMAGE_SHAPE)):
        colour = " in colour" if 3 in shape or 4 in shape else ""
        raise UserError(
            f"{where} holds images of shape {shape}{colour}, not 28 x 28; convert them to that size, in grey."
        )
    if images.dtype != np.uint8:
        images = _as_bytes(images, where)
    return images.reshape(-1, *IMAGE_SHAPE)


def _as_bytes(images: np.ndarray, where: str) -> np.ndarray:
    """Numbers of another type, of which all are whole and 0 to 255."""
    if images.dtype.kind not in "iuf":
        raise UserError(f"{where} holds images of type {images.dtype}, not the numbers 0 to 255; convert them.")
    with np.errstate(invalid="ignore"):  # of nan
        pixels = images.astype(np.uint8)
    if not np.array_equal(pixels, images):
        raise UserError(_other_values(images, where))
    return pixels


def _other_values(images: np.ndarray, where: str) -> str:
    is_finite = np.isfinite(images).reshape(len(images), -1).all(1)
    if not is_finite.all():
        return (
            f"{where} holds NaN or infinite values, first in image {is_finite.argmin()} (counted from 0); replace "
            "them, for example by 0, or remove those images."
        )
    low, high = images.min(), images.max()
    advice = "multiply them by 255 and round" if high <= 1 else "round them" if high <= 255 else "scale and round them"
    advice = "shift, scale and round them" if low < 0 else advice
    return f"{where} holds images of values from {low:g} to {high:g}, not the whole numbers 0 to 255; {advice}."


def as_digits(labels: np.ndarray, where: str) -> np.ndarray:
    """Labels as uint8 `[n]`.

    Args:
      labels: `[n]` or `[n, 1]`: the numbers 0 to 9, of any type, or as strings.
      where: what holds them, for error messages.

    Raises:
      UserError: they are anything else.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(
            f"{where} holds labels of shape {labels.shape}, not one number for each image; if they are one-hot, "
            "labels.argmax(1) makes them whole numbers."
        )
    if labels.dtype.kind not in "iufUSO":
        raise UserError(f"{where} holds labels of type {labels.dtype}, not the numbers 0 to 9; convert them.")
    listed = labels.tolist()
    numbers = np.array([_number(label) for label in listed])
    wrong = np.flatnonzero(~np.isin(numbers, range(CLASSES)))
    if len(wrong):
        number, label = numbers[wrong[0]], listed[wrong[0]]
        raise UserError(
            f"{where} holds the label {repr(label)[:40] if np.isnan(number) else f'{number:g}'} for image {wrong[0]} "
            f"(counted from 0); labels must be 0 to {CLASSES - 1}, as the nets have ten outputs (EMNIST: use its sets "
            "digits or mnist)."
        )
    return numbers.astype(np.uint8)


def _number(label: Any) -> float:
    """The label as a number, NaN if it is none."""
    try:
        return float(label)
    except (ValueError, TypeError, OverflowError):
        return math.nan


def is_sorted(labels: np.ndarray) -> bool:
    """Whether the examples are sorted by class."""
    return bool((np.diff(labels.astype(int)) >= 0).all())


def last_part(labels: np.ndarray, parts: int) -> np.ndarray:
    """Which examples are the last `1 / parts`, bool `[n]`; of each class, where they are sorted by class."""
    if is_sorted(labels):
        return rank_in_class(labels) >= (np.bincount(labels) - np.bincount(labels) // parts)[labels]
    return np.arange(len(labels)) >= len(labels) - len(labels) // parts


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each example, how many of its class come before it."""
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        rank[where] = np.arange(len(where))
    return rank
