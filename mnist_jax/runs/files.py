"""Files of a run: the folder, results.json, and how they are written so that none is ever half there."""

import contextlib
import errno
import functools
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mnist_jax.errors import UserError, expand_user, reason
from mnist_jax.runs.processes import from_first

RESULTS = "results.json"
JOURNAL = "runs.jsonl"
CHECKPOINTS = "checkpoints"
SPEED = "speed.json"
TABLE = "README.md"  # which a browser of the files shows beside the figures
# Any of these in a folder belongs to a run, which another one would overwrite or continue with.
_OF_A_RUN = (RESULTS, JOURNAL, CHECKPOINTS, SPEED)
# The temporary name of a file that a study writes.
_PART = re.compile(rf"\.([a-z_]+\.(json|png|html)|{re.escape(TABLE)})\.[1-9][0-9]*\.part")


def make_folder(out: Path | None, name: str, file: str) -> Path:
    """The folder for a run's files, made if need be; an empty file in it says that it is taken.

    Args:
      out: the user's choice; None is `runs/NAME-DATE-TIME`.
      name: of the run.
      file: the empty one.

    Raises:
      UserError: it holds a run already, of whatever kind, or a `README.md`, or cannot be written.
    """
    if out is not None:
        return _claim(expand_user(out), file)
    stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = stem
    try:
        make_folders(stem.parent)
        for number in itertools.count(2):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                break
            folder = stem.with_name(f"{stem.name}-{number}")
        sync_folder(stem.parent)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return _claim(folder, file)


def _claim(folder: Path, file: str) -> Path:
    try:
        make_folders(folder)
        if any((folder / name).exists() for name in _OF_A_RUN):
            raise UserError(f"{folder} already holds a run; choose another folder with --out.")
        if (folder / TABLE).exists():
            raise UserError(
                f"{folder} already holds a {TABLE}, which a study writes; choose another folder with --out."
            )
        (folder / file).open("x").close()
        sync_folder(folder)
    except OSError as error:  # also where another process was faster
        raise _cannot_write(folder, error) from error
    return folder


def _cannot_write(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} cannot be written ({reason(error)}); choose another folder with --out.")


def write_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: the file is there whole or as it was before, and synced to disk.

    Of several processes the first one writes.

    Raises:
      UserError: it cannot be written.
    """
    from_first(lambda: replace_file(path, content))


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


def replace_file(path: Path, content: bytes) -> None:
    """`write_file` in this process, whichever it is."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({reason(error)}).") from error


def remove_parts(folder: Path) -> None:
    """Remove what a process left in a study's folder that was killed in `replace_file`."""
    with contextlib.suppress(OSError):  # it does no harm
        for path in folder.iterdir():
            if _PART.fullmatch(path.name) and path.is_file():
                path.unlink()


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """A file that the user names, taken before anything slow; what is called with its content writes it.

    Raises:
      UserError: it already exists, and so it stays, or it cannot be written.
    """
    path = expand_user(path)
    try:
        path.open("xb").close()
    except FileExistsError as error:
        raise UserError(f"{path} already exists; choose another file with --out.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be written ({reason(error)}); choose another with --out.") from error
    try:
        yield functools.partial(write_file, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """`write_file` each, file name -> content, into a folder; returns their paths."""
    for name, content in files.items():
        write_file(folder / name, content)
    return [folder / name for name in files]


def write_results(folder: Path, results: Mapping[str, Any], file: str = RESULTS) -> None:
    """Write results.json, or `file`; a number that is not finite is refused, JSON has none."""
    write_file(folder / file, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
