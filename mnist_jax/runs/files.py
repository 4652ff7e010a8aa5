"""Files of a run: the folder, results.json, and how they are written so that none is ever half written."""

import contextlib
import functools
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mnist_jax.data.files import make_folders, replace_file, sync_folder
from mnist_jax.errors import UserError, expand_user, reason
from mnist_jax.runs.processes import from_first

RUNS = Path("runs")  # new folders are made here
RESULTS = "results.json"
JOURNAL = "runs.jsonl"
CHECKPOINTS = "checkpoints"
SPEED = "speed.json"
TABLE = "README.md"  # shown by sites that browse folders, such as GitHub
# A folder with any of these holds a run, which another run would overwrite or continue.
_OF_A_RUN = (RESULTS, JOURNAL, CHECKPOINTS, SPEED)
# The temporary name of a file that a study writes.
_PART = re.compile(rf"\.([a-z_]+\.(json|png|html)|{re.escape(TABLE)})\.[1-9][0-9]*\.part")


def make_folder(out: Path | None, name: str, file: str) -> Path:
    """Make the folder for a run's files, if it does not exist, and claim it with an empty file.

    Args:
      out: the user's choice; None is `runs/NAME-DATE-TIME`.
      name: name of the run.
      file: name of the empty file.

    Raises:
      UserError: the folder already holds a run of any kind, or a `README.md`, or cannot be written.
    """
    if out is not None:
        return _claim(expand_user(out), file)
    stem = RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
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
    """`replace_file`, in the first process only."""
    from_first(lambda: replace_file(path, content))


def remove_parts(folder: Path) -> None:
    """Remove what a process that was killed in `replace_file` has left in a study's folder."""
    with contextlib.suppress(OSError):  # they do no harm
        for path in folder.iterdir():
            if _PART.fullmatch(path.name) and path.is_file():
                path.unlink()


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Claim a file that the user names, before anything slow; yields the function that writes its content.

    Raises:
      UserError: it already exists (and is kept), or it cannot be written.
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
    """Write files, name -> content, into a folder; returns their paths."""
    for name, content in files.items():
        write_file(folder / name, content)
    return [folder / name for name in files]


def write_results(folder: Path, results: Mapping[str, Any], file: str = RESULTS) -> None:
    """Write results.json, or `file`; a number that is not finite, which JSON lacks, raises ValueError."""
    write_file(folder / file, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
