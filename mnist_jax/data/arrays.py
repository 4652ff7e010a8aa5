"""Digits as a source stores them: arrays that are checked, and known by their SHA-256."""

import dataclasses
import hashlib

import numpy as np

from mnist_jax.errors import UserError
from mnist_jax.lessons import CLASSES, IMAGE_SHAPE
from mnist_jax.train import Examples

# SHA-256 of the arrays (`digest`) -> what they are. TFDS keeps MNIST's examples in an order of its own.
KNOWN = {
    "25c98f992c005963b7428e1f38418b233c9b286cc403519287eb8063f0bcfe07": "MNIST",
    "8d55194a4946d8cf7678cfed1846bc104a3440e8195d16b3295d5feebc6b6e04": "MNIST",
    "eee656c63c1c7a3b7c885d28c97fd74dc039264ce75eae7cb8d991df379ef736": "Fashion-MNIST",  # the authors' four files
    "d7a0aca7ffff4247002ef8ec10bb26348ff47025083ac25d82cd4ab948518319": "sample of MNIST",
}


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A source as it is stored: training and test examples, not yet split further."""

    train: Examples
    test: Examples
    sha256: str

    @property
    def name(self) -> str:
        """What they are by their SHA-256."""
        return KNOWN.get(self.sha256, "unrecognised")


def digest(train: Examples, test: Examples) -> str:
    """SHA-256 over shape and bytes of the four arrays, labels as uint8."""
    sha = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def checked(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], where: str) -> Arrays:
    """Checked arrays: 28 x 28 bytes, as many labels, all of ten classes."""
    for images, labels in (train, test):
        if images.ndim != 3 or images.shape[1:] != IMAGE_SHAPE or images.dtype != np.uint8:
            raise UserError(f"{where} holds images of shape {images.shape[1:]}, not 28 x 28 bytes.")
        if len(images) != len(labels):
            raise UserError(f"{where} holds {len(images)} images but {len(labels)} labels in one split.")
        if len(images) == 0:
            raise UserError(f"{where} holds a split without images.")
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise UserError(f"{where} holds the label {max(labels, key=abs)}; labels must be 0 to {CLASSES - 1}.")
    splits = [Examples(images, labels.astype(np.uint8)) for images, labels in (train, test)]
    return Arrays(splits[0], splits[1], digest(splits[0], splits[1]))
