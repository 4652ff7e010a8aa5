"""A study's finished runs, one line of JSON each, so that an interrupted study goes on where it was."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnist_jax.errors import UserError, expand_user
from mnist_jax.results import claim_folder, write_file

JOURNAL = "runs.jsonl"


class Journal:
    """The file `runs.jsonl` of a study's folder: what is studied, then a line for each finished part.

    A line is on the disk before `add` returns. A last line that an interrupt cut short is dropped.

    Args:
      folder: of the study.
      header: what is studied, of `describe_run`; to go on, it must be that of the folder's journal but for the command.

    Raises:
      UserError: the folder holds something else, or cannot be read or written.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        config = {key: value for key, value in header["config"].items() if key != "command"}
        header = json.loads(json.dumps({**header, "config": config}))
        try:
            lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
            entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
        except (OSError, ValueError) as error:
            raise UserError(f"{self._path} cannot be read ({error}); name another folder with --out.") from error
        if entries and entries[0] != header:
            raise UserError(
                f"{folder} holds another study ({_difference(entries[0], header)}); name another folder with --out."
            )
        self._entries = entries[1:]
        if len(entries) < max(1, len(lines)):
            write_file(self._path, b"".join(_line(entry) for entry in entries or [header]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Keep a finished part.

        Raises:
          UserError: it cannot be written.
        """
        try:
            with self._path.open("ab") as file:
                file.write(_line(entry))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{self._path} cannot be written ({error.strerror or error}).") from error
        self._entries.append(entry)


def open_study(out: Path | None, name: str, header: Mapping[str, Any]) -> tuple[Path, Journal]:
    """The folder of a study, new or with what an interrupted one of the same header has done.

    Args:
      out: the user's choice; None is a new folder, `runs/NAME-DATE-TIME`.
      name: of the study.
      header: as in `Journal`.

    Raises:
      UserError: it holds a run or another study, or cannot be written.
    """
    folder = None if out is None else expand_user(out)
    if folder is None or not (folder / JOURNAL).exists():
        folder = claim_folder(folder, name)
    return folder, Journal(folder, header)


def _line(entry: Mapping[str, Any]) -> bytes:
    return (json.dumps(entry, allow_nan=False) + "\n").encode()


def _difference(old: Any, new: Mapping[str, Any]) -> str:
    """The first thing in which two headers differ: `config.epochs is 5, not 10`."""
    key = next(key for key in {**new, **old} if old.get(key) != new.get(key))
    if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
        return f"{key}.{_difference(old[key], new[key])}"
    return f"{key} is {old.get(key)}, not {new.get(key)}"
