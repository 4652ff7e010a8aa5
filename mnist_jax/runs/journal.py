"""A study's finished runs, one line of JSON each, so that an interrupted study continues where it stopped."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mnist_jax.data.locks import alone_in
from mnist_jax.errors import UserError, expand_user, reason
from mnist_jax.runs.files import CHECKPOINTS, JOURNAL, make_folder, remove_parts
from mnist_jax.runs.processes import check_same, from_first
from mnist_jax.runs.provenance import (
    differences,
    environment_changes,
    jax_settings_restored,
    may_be_another_program,
    program,
)

_RESUMED_IN = "resumed_in"  # key of a later environment, in a line of its own, and of all of them in results.json
_CHOOSE = "choose another folder with --out."
_GROUPING = ("backend", "devices", "processes")  # what in an environment decides which runs train side by side


class Journal:
    """The file `runs.jsonl` of a study's folder: what is studied, then a line for each finished part.

    A line is on the disk before `add` returns. A last line that an interrupt cut short is dropped; other damage is
    refused. While a journal is open no other process can open it; use it as a context manager.

    Args:
      folder: folder of the study.
      header: what `describe_run` returns; to resume, it must equal the journal's but for the command, the environment
        and where the digits were.
      notify: receives a message if the environment or the program has changed, or the folder cannot be locked.

    Attributes:
      header: the beginning of results.json: the header with the environment of the start, and those of later resumes.

    Raises:
      UserError: the folder holds something else, another process works in it, or it cannot be written.
    """

    def __init__(
        self, folder: Path, header: Mapping[str, Any], *, notify: Callable[[str], object] = lambda message: None
    ) -> None:
        self._path, self._notify = folder / JOURNAL, notify
        self._resources = contextlib.ExitStack()  # lock and file, in the first process
        self._is_new = False
        self._entries: list[dict[str, Any]]
        environments, self._entries = from_first(lambda: self._open(header))
        resumed = {_RESUMED_IN: environments[1:]} if len(environments) > 1 else {}
        self.header = {**header, "environment": environments[0], **resumed}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None and self._is_new and not self._entries and not self._has_checkpoints():
            with contextlib.suppress(OSError):
                self._path.unlink()  # nothing was trained: free the folder
        self._resources.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Append a finished part.

        Raises:
          UserError: it cannot be written.
        """
        from_first(lambda: self._keep(entry))
        self._entries.append(entry)

    def _keep(self, entry: Mapping[str, Any]) -> None:
        try:
            self._write(entry)
        except OSError as error:
            raise self._cannot_write(error, "fix this and continue with --resume.") from error

    def _open(self, header: Mapping[str, Any]) -> tuple[list[Any], list[dict[str, Any]]]:
        """Lock the folder and open the file; the environments so far, and the finished parts."""
        try:
            with contextlib.ExitStack() as resources:
                resources.enter_context(alone_in(self._path.parent, wait=False, notify=self._notify))
                # Without a buffer: closing the file would try again to write what did not fit on the disk.
                self._file = resources.enter_context(self._path.open("a+b", buffering=0))
                found = self._begin_or_resume(header)
                remove_parts(self._path.parent)
                self._resources = resources.pop_all()
                return found
        except OSError as error:
            with contextlib.suppress(OSError):
                if b"\n" not in self._path.read_bytes():
                    self._path.unlink()  # not even a header fitted on the disk: free the folder
            raise self._cannot_write(error, _CHOOSE) from error

    def _begin_or_resume(self, header: Mapping[str, Any]) -> tuple[list[Any], list[dict[str, Any]]]:
        self._file.seek(0)
        *lines, _ = self._file.readall().split(b"\n")
        self._size = sum(len(line) + 1 for line in lines)
        now = header.get("environment", {})
        if not lines:
            if self._has_checkpoints():
                raise UserError(f"{self._path} does not describe the checkpoints beside it; {_CHOOSE}")
            self._write({**header, "environment": now})
            self._is_new = True
            return [now], []
        first, *rest = [self._decoded(line, number) for number, line in enumerate(lines, start=1)]
        if not first.keys() >= {"study", "environment"}:
            raise self._damaged(1)
        folder, old, new = self._path.parent, _identity(first), _identity(header)
        if restoring := jax_settings_restored(old, new):
            raise UserError(f"{folder} was started with other settings of JAX; {restoring} to resume it, or {_CHOOSE}")
        if difference := _difference(old, new):
            raise UserError(f"{folder} holds another study ({difference}); {_CHOOSE}")
        environments = [first["environment"], *(line[_RESUMED_IN] for line in rest if _RESUMED_IN in line)]
        if changes := environment_changes(environments[0], now):
            self._notify(
                f"This study is resumed in another environment ({', '.join(changes)}): its results may differ from "
                "those of an uninterrupted one in the last digits, and its results.json records both environments."
            )
        if may_be_another_program(environments[0], now):
            self._notify(
                f"The program may have changed since this study was started (then {program(environments[0])}; now "
                f"{program(now)}): its results may differ from those of an uninterrupted one."
            )
        if any(known.get(name) != now.get(name) for known in environments for name in _GROUPING):
            self._notify("The devices or processes have changed: runs under way may start again from epoch 1.")
        if all(environment_changes(known, now) or program(known) != program(now) for known in environments):
            self._write({_RESUMED_IN: now})
            environments.append(now)
        return environments, [line for line in rest if _RESUMED_IN not in line]

    def _decoded(self, line: bytes, number: int) -> dict[str, Any]:
        with contextlib.suppress(ValueError, RecursionError):  # the latter of JSON nested thousands deep
            entry = json.loads(line.decode())
            if isinstance(entry, dict) and entry.pop("digest", None) == _digest(entry):
                return entry
        raise self._damaged(number)

    def _damaged(self, number: int) -> UserError:
        repair = "delete it to repeat what it holds, or " if number > 1 else ""
        return UserError(
            f"Line {number} of {self._path} is damaged or was written by another version of this program; "
            f"{repair}{_CHOOSE}"
        )

    def _write(self, entry: Mapping[str, Any]) -> None:
        content = memoryview((json.dumps({**entry, "digest": _digest(entry)}, allow_nan=False) + "\n").encode())
        end = self._size + len(content)
        self._file.truncate(self._size)  # drops the partial line that an earlier error left
        while content:
            content = content[self._file.write(content) :]
        os.fsync(self._file.fileno())
        self._size = end

    def _has_checkpoints(self) -> bool:
        return (self._path.parent / CHECKPOINTS).exists()

    def _cannot_write(self, error: OSError, advice: str) -> UserError:
        return UserError(f"{self._path} cannot be written ({reason(error)}); {advice}")


def open_study(
    out: Path | None,
    name: str,
    header: Mapping[str, Any],
    *,
    resume: bool = False,
    notify: Callable[[str], object] = lambda message: None,
) -> tuple[Path, Journal]:
    """Open the folder of a study, new or left by an interrupted study with the same header.

    Args:
      out: the user's choice; None is a new folder, `runs/NAME-DATE-TIME`.
      name: name of a new folder.
      header: see `Journal`.
      resume: continue the study in `out`, which is otherwise refused.
      notify: see `Journal`.

    Raises:
      UserError: there is nothing to resume, or something that may not be overwritten, or another process works on it,
        or it cannot be written.
    """
    # Otherwise, processes started with different settings would train as one.
    own = {key: value for key, value in _identity(header).items() if key != "data"}
    check_same(
        own, lambda first: f"This process was started with other arguments than process 0 ({_difference(first, own)})."
    )
    folder = Path(from_first(lambda: str(_study_folder(out, name, resume))))
    return folder, Journal(folder, header, notify=notify)


def _study_folder(out: Path | None, name: str, resume: bool) -> Path:
    if out is None and resume:
        raise UserError("--resume needs --out with the folder of the run to continue.")
    if out is None:
        return make_folder(None, name, JOURNAL)
    folder = expand_user(out)
    holds_study = _is_there(folder / JOURNAL)
    if resume and not holds_study:
        raise UserError(f"{folder} contains no run to resume; omit --resume or {_CHOOSE}")
    if holds_study and not resume:
        raise UserError(f"{folder} already holds a run; continue it with --resume, or {_CHOOSE}")
    return folder if resume else make_folder(folder, name, JOURNAL)


def _identity(header: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a study: its header, as read from JSON, without command, environment and folder of the digits."""
    found = json.loads(json.dumps({**header, "environment": None}))
    found.get("config", {}).pop("command", None)
    found.get("data", {}).pop("where", None)
    return found


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first difference of two headers, `config.epochs is 5, not 10`; empty if there is none."""
    return next((f"{name} is {was}, not {now}" for name, was, now in differences(old, new)), "")


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()[:16]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have: `make_folder` refuses it
        return False
