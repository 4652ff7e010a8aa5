"""Reader of EMNIST's MATLAB files."""

import struct
import zlib
from pathlib import Path

from mnist_jax.data.arrays import MOST_BYTES
from mnist_jax.data.files import opened
from mnist_jax.data.needed import needed
from mnist_jax.data.pieces import SPLITS, Pieces
from mnist_jax.errors import UserError, reason

_HEADER = 128  # bytes; the last two give the byte order
_COMPRESSED = 15


def read_matlab(path: Path) -> Pieces:
    """The images and labels of emnist-digits.mat and its like (source: the EMNIST paper, arXiv:1702.05373).

    Raises:
      UserError: it is damaged, or anything else.
    """
    io = needed("scipy.io", "MATLAB files")
    try:
        _check_size(path)
        found = io.loadmat(path, simplify_cells=True, variable_names=["dataset"])["dataset"]
        return {f"{split} {what}": found[split][what] for split in SPLITS for what in ("images", "labels")}
    except Exception as error:  # whatever a foreign or damaged file makes SciPy raise
        raise UserError(f"{path} is damaged, or not EMNIST's MATLAB file ({reason(error)}); fetch it again.") from error


def _check_size(path: Path) -> None:
    """Unpack without keeping anything, as SciPy has no limit; see MathWorks' "MAT-File Format", version 5.

    Raises:
      ValueError: it is larger than anything here may be.
    """
    size = 0
    with opened(path) as file:
        order = "<" if file.read(_HEADER).endswith(b"IM") else ">"
        while len(tag := file.read(8)) == 8:
            kind, length = struct.unpack(f"{order}2I", tag)
            packed, unpacking = file.read(length), zlib.decompressobj()
            while kind == _COMPRESSED and packed:
                size += len(unpacking.decompress(packed, MOST_BYTES // 64))
                packed = unpacking.unconsumed_tail
                if size > MOST_BYTES:
                    raise ValueError(f"it holds more than {MOST_BYTES:,} bytes")
