"""Checkpoints of runs under way: the whole state and the metrics so far, one safetensors file each."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.data.files import make_folders, replace_file
from mnist_jax.errors import UserError, reason
from mnist_jax.runs.processes import from_first, in_all

HISTORY = "history"  # name of the tensor that holds the history, as JSON

# A checkpoint's file is named after its epoch and the first half of its content's SHA-256: safetensors would not
# notice a flipped bit. Files with other names are not ours.
FILE = re.compile(r"(0|[1-9][0-9]{0,9})-([0-9a-f]{32})\.safetensors")


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      epoch: number of the epoch.
      arrays: the state, name -> array.
      history: metrics of all epochs so far, as JSON.
    """

    epoch: int
    arrays: Mapping[str, np.ndarray]
    history: Any


class Checkpoints:
    """Checkpoints of one group of runs, in a folder.

    Args:
      folder: created with the first checkpoint.
      every: epochs between checkpoints; the last epoch always gets one.
      keep: number of newest checkpoints kept during training.
      keep_last: whether the last checkpoint is kept afterwards.
      notify: called with a message about a checkpoint that is damaged or cannot be removed.

    Raises:
      UserError: `every` or `keep` below 1.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 1,
        keep: int = 2,
        keep_last: bool = True,
        notify: Callable[[str], object] = lambda message: None,
    ) -> None:
        for what, number in (("epochs from one checkpoint to the next", every), ("checkpoints kept", keep)):
            if number < 1:
                raise UserError(f"The number of {what} must be at least 1, not {number}.")
        self._folder, self._every, self._keep = folder.absolute(), every, keep
        self._keep_last, self._notify = keep_last, notify
        self._stuck: set[Path] = set()  # could not be removed, and have been reported

    def of(self, name: str) -> "Checkpoints":
        """The checkpoints of the runs called `name`, in a subfolder of this one."""
        folder = self._folder / name
        return Checkpoints(folder, every=self._every, keep=self._keep, keep_last=self._keep_last, notify=self._notify)

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether epoch number `epoch` of `epochs` gets a checkpoint."""
        return epoch % self._every == 0 or epoch == epochs

    def save(self, epoch: int, arrays: Mapping[str, np.ndarray], history: Any) -> None:
        """Write a checkpoint, and read it back before an older one is removed.

        When this returns, it is synced to disk.

        Args:
          epoch: number of the epoch.
          arrays: the state, name -> array.
          history: metrics of all epochs so far, as JSON.

        Raises:
          UserError: it cannot be written; earlier checkpoints are untouched.
        """
        from_first(lambda: self._save(epoch, arrays, history))

    def _save(self, epoch: int, arrays: Mapping[str, np.ndarray], history: Any) -> None:
        from safetensors.numpy import save

        # In C order: `save` writes an array's memory as it is.
        tensors = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        content = save({**tensors, HISTORY: np.frombuffer(json.dumps(history).encode(), np.uint8)})
        path = self._folder / f"{epoch}-{_digest(content)}.safetensors"
        try:
            make_folders(self._folder)
            self._remove_parts()
            replace_file(path, content)
            if _read(path) is None:
                raise OSError("it reads back differently")
        except (OSError, UserError) as error:
            raise UserError(
                f"A checkpoint cannot be written to {self._folder} ({_reason(error)}); earlier ones are untouched. "
                "Fix this and continue with --resume."
            ) from error.__cause__ or error
        others = [other for other in _files(self._folder) if other != path and _epoch(other) <= epoch]
        kept = [other for other in others if _epoch(other) < epoch][: self._keep - 1]
        for other in others:
            if other not in kept:
                self._remove(other)

    def newest(self) -> Checkpoint | None:
        """The newest intact checkpoint; damaged newer ones are reported, and stay for now.

        Raises:
          UserError: a checkpoint cannot be read.
        """
        name = from_first(self._newest_whole)
        return None if name is None else in_all(lambda: self._in_this_process(name))

    def _in_this_process(self, name: str) -> Checkpoint:
        if (found := _read(self._folder / name)) is None:
            raise UserError(f"{self._folder / name} cannot be read; all processes need the same folder.")
        return found

    def _newest_whole(self) -> str | None:
        files = _files(self._folder)
        whole = next((path for path in files if _read(path) is not None), None)
        instead = "training starts from epoch 1" if whole is None else f"that of epoch {_epoch(whole)} is used"
        for path in files[: None if whole is None else files.index(whole)]:
            self._notify(f"The checkpoint of epoch {_epoch(path)} in {self._folder} is damaged; {instead}.")
        return None if whole is None else whole.name

    def finish(self) -> None:
        """Clean up after the runs: keep their last checkpoint, or none.

        Raises:
          UserError: the folder cannot be read.
        """
        if not self._keep_last:
            from_first(self._remove_all)

    def finish_groups(self) -> None:
        """`finish` every group in this folder, also those that another number of devices left.

        Raises:
          UserError: a folder cannot be read.
        """
        if not self._keep_last:
            from_first(self._remove_groups)

    def _remove_groups(self) -> None:
        for group in sorted(self._folder.glob("seed-*")):
            self.of(group.name)._remove_all()

    def _remove_all(self) -> None:
        self._remove_parts()
        for path in _files(self._folder):
            self._remove(path)
        with contextlib.suppress(OSError):  # other files are there
            self._folder.rmdir()
            self._folder.parent.rmdir()

    def _remove_parts(self) -> None:
        """Remove what a process that was killed while writing has left."""
        for part in self._folder.glob(".*-*.safetensors.*.part"):
            self._remove(part)

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # as on NFS, while another machine reads it
            if path not in self._stuck:
                self._notify(f"{path} is no longer needed but cannot be removed ({_reason(error)}).")
            self._stuck.add(path)


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint in the folder of a `Checkpoints`, which may be writing to it.

    Nothing in the folder is changed, so that a net can be read while it is trained.

    Raises:
      UserError: a checkpoint cannot be read.
    """
    files = _files(folder)
    try:
        found = next(filter(None, map(_read, files)), None)
    except UserError:  # as on NFS, if another machine has removed the file meanwhile
        if _files(folder) == files:
            raise
        found = None
    # Training may have replaced all of them since.
    return found if found is not None or _files(folder) == files else last_checkpoint(folder)


def _files(folder: Path) -> list[Path]:
    """The folder's checkpoints, newest first."""
    try:
        files = [path for path in folder.iterdir() if FILE.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({_reason(error)}).") from error
    return sorted(files, key=_epoch, reverse=True)


def _epoch(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _read(path: Path) -> Checkpoint | None:
    """A checkpoint; None if it is damaged or gone.

    Raises:
      UserError: it cannot be read, which says nothing about its content; or another version wrote it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({_reason(error)}).") from error
    if _digest(content) not in path.name:
        return None
    try:
        arrays = load(content)
        return Checkpoint(_epoch(path), arrays, json.loads(arrays.pop(HISTORY).tobytes()))
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:  # though it is as it was written
        raise UserError(
            f"{path} is a checkpoint of another version of this program ({reason(error)}); train again in another "
            "folder."
        ) from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _reason(error: Exception) -> str:
    return reason(error.__cause__ or error)
