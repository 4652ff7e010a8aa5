"""Files that are never half there."""

import contextlib
import errno
import os
import sys
from pathlib import Path

from mnist_jax.errors import UserError, reason


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write under a temporary name, then rename: the file is there whole or as it was before, and synced to disk.

    Raises:
      UserError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
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
