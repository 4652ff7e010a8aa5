"""Reader of the IDX format, in which the original MNIST files come, gzipped or not."""

import math
import zipfile
from pathlib import Path

import numpy as np

from mnist_jax.data.arrays import MOST_BYTES
from mnist_jax.data.files import opened
from mnist_jax.errors import UserError

_UINT8, _INT32 = 0x08, 0x0C
_CHUNK = 1 << 20


def read_idx(path: Path | zipfile.Path, dimensions: int) -> np.ndarray:
    """The array of an IDX file of unsigned bytes, or the digits of QMNIST's table of labels.

    The header is two zero bytes, the type, the number of dimensions, and each size as a big-endian int32
    (source: http://yann.lecun.com/exdb/mnist). Sizes are not trusted: memory grows with what the file really
    holds, never with what its header claims.

    Args:
      path: the file; gzip is recognised by its first bytes, whatever the name.
      dimensions: how many the array must have: 3 for images, 1 for labels. For those a table of int32, of which the
        first column is the digit, serves too (source: https://github.com/facebookresearch/qmnist).

    Returns:
      uint8, read-only; int32 from a table.

    Raises:
      UserError: the file is missing, unreadable, damaged, or not IDX bytes of that many dimensions.
    """
    with opened(path) as file:
        begin = file.read(4)
        is_table = dimensions == 1 and begin == bytes([0, 0, _INT32, 2])
        sizes = file.read(8 if is_table else 4 * dimensions)
        if not is_table and (begin != bytes([0, 0, _UINT8, dimensions]) or len(sizes) < 4 * dimensions):
            kind = {1: "labels", 3: "images"}.get(dimensions, "bytes")
            raise UserError(f"{path} is not an IDX file of {kind}; fetch it again or choose another folder.")
        shape = tuple(int(size) for size in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
        dtype = np.dtype(">i4" if is_table else np.uint8)
        expected = math.prod(shape) * dtype.itemsize
        content = bytearray()
        while len(content) <= min(expected, MOST_BYTES) and (chunk := file.read(_CHUNK)):
            content += chunk
    if len(content) != expected:
        found = "fewer" if len(content) < expected else "more"
        raise UserError(f"{path} holds {found} bytes than its header says; fetch it again.")
    try:
        array = np.frombuffer(bytes(content), dtype).reshape(shape)
    except ValueError as error:  # 0 x 4294967295 x 4294967295
        raise UserError(f"{path} has a header of sizes that no array can have; fetch it again.") from error
    if not is_table:
        return array
    if not shape[1:] or shape[1] == 0:
        raise UserError(f"{path} is a table of labels without a column; fetch it again.")
    return array[:, 0].astype(np.int32)
