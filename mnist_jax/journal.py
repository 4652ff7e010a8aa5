"""A study's finished runs, one line of JSON each, so that an interrupted study goes on where it was."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mnist_jax.errors import UserError, expand_user
from mnist_jax.processes import check_same, from_first
from mnist_jax.results import RESULTS, make_folder

if sys.platform != "win32":
    import fcntl

JOURNAL = "runs.jsonl"
CHECKPOINTS = "checkpoints"  # the folder beside it


class Journal:
    """The file `runs.jsonl` of a study's folder: what is studied, then a line for each finished part.

    A line is on the disk before `add` returns. A last line that an interrupt cut short is dropped. While a journal is
    open no other process can open it; use it as a context manager.

    Args:
      folder: of the study.
      header: what is studied, of `describe_run`; to go on, it must be that of the folder's journal but for the command.

    Raises:
      UserError: the folder holds something else, another process works on it, or it cannot be read or written.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        self._file: BinaryIO | None = None
        self._is_new = False
        self._entries = from_first(lambda: self._open(header))

    def _open(self, header: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Open and lock the file, and write or compare the header; returns the entries."""
        header = _identity(header)
        folder = self._path.parent
        try:
            file = self._path.open("a+b")
        except OSError as error:
            raise self._cannot("written", error) from error
        try:
            _lock(file, folder)
            file.seek(0)
            lines = [line for line in file if line.endswith(b"\n")]
            entries = [json.loads(line) for line in lines]
            if entries and entries[0] != header:
                raise UserError(
                    f"{folder} holds another study ({_difference(entries[0], header)}); name another folder with --out."
                )
            file.truncate(sum(map(len, lines)))
            if not entries:
                self._is_new = True
                _write(file, header)
        except BaseException as error:
            file.close()
            if isinstance(error, OSError | ValueError) and not isinstance(error, UserError):
                raise self._cannot("read", error) from error
            raise
        self._file = file
        return entries[1:]

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is None:
            return
        folder = self._path.parent
        if self._is_new and exception[0] is not None and not self._entries and not (folder / CHECKPOINTS).exists():
            self._path.unlink(missing_ok=True)  # nothing came of it: the folder is free again
        self._file.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Keep a finished part.

        Raises:
          UserError: it cannot be written.
        """
        from_first(lambda: self._keep(entry))
        self._entries.append(entry)

    def _keep(self, entry: Mapping[str, Any]) -> None:
        assert self._file is not None  # the first process opened it
        size = self._file.seek(0, os.SEEK_END)
        try:
            _write(self._file, entry)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(size)  # what was written of the line
            raise self._cannot("written", error) from error

    def _cannot(self, what: str, error: Exception) -> UserError:
        reason = getattr(error, "strerror", None) or error
        return UserError(f"{self._path} cannot be {what} ({reason}); name another folder with --out.")


def open_study(out: Path | None, name: str, header: Mapping[str, Any], *, resume: bool = False) -> tuple[Path, Journal]:
    """The folder of a study, new or with what an interrupted one of the same header has done.

    Args:
      out: the user's choice; None is a new folder, `runs/NAME-DATE-TIME`.
      name: of the study.
      header: as in `Journal`.
      resume: go on with the study in `out`, which is otherwise refused.

    Raises:
      UserError: there is nothing to go on with, or something that may not be overwritten, or another process is at
        work on it, or it cannot be read or written.
    """
    # Several processes that were told different things would train them as one.
    config = _identity(header)["config"]
    check_same(
        config, lambda first: f"This process was told something else than the first ({_difference(first, config)})."
    )
    folder = Path(from_first(lambda: str(_study_folder(out, name, resume))))
    return folder, Journal(folder, header)


def _study_folder(out: Path | None, name: str, resume: bool) -> Path:
    if out is None and resume:
        raise UserError("--resume goes on with the run in a folder; name that with --out.")
    if out is None:
        return make_folder(None, name, JOURNAL)
    folder = expand_user(out)
    holds_study = _is_there(folder / JOURNAL)
    if resume:
        if not holds_study:
            raise UserError(f"{folder} holds no run to go on with; leave out --resume, or name another with --out.")
        return folder
    if holds_study:
        raise UserError(f"{folder} already holds a run; go on with it with --resume, or name another with --out.")
    if _is_there(folder / RESULTS):
        raise UserError(f"{folder} already holds a run; name another folder with --out.")
    return make_folder(folder, name, JOURNAL)


def _identity(header: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two studies the same: all but the command, as JSON gives it back."""
    config = {key: value for key, value in header["config"].items() if key != "command"}
    return json.loads(json.dumps({**header, "config": config}))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have: `make_folder` says so
        return False


def _write(file: BinaryIO, entry: Mapping[str, Any]) -> None:
    file.write((json.dumps(entry, allow_nan=False) + "\n").encode())
    file.flush()
    os.fsync(file.fileno())


def _lock(file: BinaryIO, folder: Path) -> None:
    """Until the file is closed no other process gets the lock."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"Another process is at work on the study in {folder}; wait for it, or stop it.") from error


def _difference(old: Any, new: Mapping[str, Any]) -> str:
    """The first thing in which two headers differ: `config.epochs is 5, not 10`."""
    key = next(key for key in {**new, **old} if old.get(key) != new.get(key))
    if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
        return f"{key}.{_difference(old[key], new[key])}"
    return f"{key} is {old.get(key)}, not {new.get(key)}"
