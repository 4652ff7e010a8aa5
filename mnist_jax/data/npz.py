"""Reader of numpy's files: Keras's mnist.npz, kmnist's npz family, and arrays that people saved themselves."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from mnist_jax.data.arrays import MOST_BYTES
from mnist_jax.data.files import opened
from mnist_jax.data.pieces import Pieces, split_of
from mnist_jax.errors import UserError, reason

# Of an image, 8 x 8. Rows of fewer numbers are labels, perhaps one-hot, which `as_digits` refuses.
_FEWEST_PIXELS = 64


def read_numpy(path: Path) -> Pieces:
    """The arrays of an .npz or .npy file; shapes tell labels from images, names tell the split.

    Raises:
      UserError: it is damaged, holds Python objects, which are not unpickled, or two arrays of one kind.
    """
    pieces: Pieces = {}
    try:
        for name, array in _arrays(path):
            is_labels = array.ndim < 3 and math.prod(array.shape[1:]) < _FEWEST_PIXELS
            piece = " ".join(filter(None, [split_of(name), "labels" if is_labels else "images"]))
            if piece in pieces:
                raise UserError(f"{path} holds several arrays of {piece}; keep one of them.")
            pieces[piece] = array
    # For a damaged header numpy also raises Python's errors about the header's text.
    except (OSError, EOFError, ValueError, SyntaxError, tokenize.TokenError, TypeError, KeyError, RecursionError,
            NotImplementedError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as numpy's arrays ({reason(error)}); fetch it again.") from error
    return pieces


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of a file."""
    with opened(path) as file:
        if file.read(6) == npy.MAGIC_PREFIX:
            file.seek(0)
            yield "", _array(file, path)
            return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    yield member.filename, _array(file, path)  # type: ignore[arg-type]


def _array(file: BinaryIO, path: Path) -> np.ndarray:
    """One array; what its header claims is checked before anything of that size is allocated."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, is_fortran, dtype = readers[npy.read_magic(file)](file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise UserError(
            f"{path} holds Python objects, which are never unpickled here; save it again with arrays of numbers, made "
            "with .astype(int) for example."
        )
    if not shape:
        raise UserError(f"{path} holds a single value beside its arrays; save it again without that.")
    if size > MOST_BYTES:
        raise ValueError(f"it says that it holds an array of shape {shape}")
    content = file.read(size + 1)
    if len(content) != size:
        raise ValueError(f"its array is of {len(content):,} bytes, not {size:,}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
