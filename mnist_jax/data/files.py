"""Files: read gzipped or not, and never left half written."""

import contextlib
import errno
import gzip
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mnist_jax.errors import UserError, reason


@contextlib.contextmanager
def opened(path: Path | zipfile.Path) -> Iterator[BinaryIO]:
    """The file, unzipped where it is gzip by its first bytes, its errors as `UserError`."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                yield file  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({reason(error)}); fetch it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}).") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file under a temporary name, then synced and renamed: readers see it whole, or as it was before.

    Raises:
      UserError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except (OSError, KeyboardInterrupt) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UserError(f"{path} cannot be written ({reason(error)}).") from error


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file as `replacing` does, and raise what that raises."""
    with replacing(path) as file:
        file.write(content)


def make_folders(folder: Path) -> None:
    """Create a folder and those above it, unless they are there, each synced to disk."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, so that a rename survives a power loss."""
    if sys.platform == "win32":  # which opens no folders
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written but not read
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that sync no folders
            raise
    finally:
        os.close(opened)
