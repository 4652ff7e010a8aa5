"""Reader of the IDX format, in which the original MNIST files come, gzipped or not."""

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mnist_jax.errors import UserError, reason

_UINT8 = 0x08
_CHUNK = 1 << 20


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of an IDX file of unsigned bytes.

    The header is two zero bytes, the type, the number of dimensions, and each size as a big-endian int32
    (source: http://yann.lecun.com/exdb/mnist). Sizes are not trusted: memory grows with what the file really
    holds, never with what its header claims.

    Args:
      path: the file; gzip is recognised by its first bytes, whatever the name.
      dimensions: how many the array must have: 3 for images, 1 for labels.

    Returns:
      uint8, read-only.

    Raises:
      UserError: the file is missing, unreadable, damaged, or not IDX bytes of that many dimensions.
    """
    with _opened(path) as file:
        header = file.read(4 + 4 * dimensions)
        if header[:4] != bytes([0, 0, _UINT8, dimensions]) or len(header) < 4 + 4 * dimensions:
            kind = {1: "labels", 3: "images"}.get(dimensions, "bytes")
            raise UserError(f"{path} is not an IDX file of {kind}; fetch it again or choose another folder.")
        shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
        expected = math.prod(shape)
        content = bytearray()
        while len(content) <= expected and (chunk := file.read(_CHUNK)):
            content += chunk
    if len(content) != expected:
        found = "fewer" if len(content) < expected else "more"
        raise UserError(f"{path} holds {found} bytes than its header says; fetch it again.")
    try:
        return np.frombuffer(bytes(content), np.uint8).reshape(shape)
    except ValueError as error:  # 0 x 4294967295 x 4294967295
        raise UserError(f"{path} has a header of sizes that no array can have; fetch it again.") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, unzipped where it is gzip, its errors as `UserError`."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                yield file  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); fetch it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}).") from error
