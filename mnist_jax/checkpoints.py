"""Checkpoints of runs under way, with Orbax: the whole state and what the epochs came to, checked when read."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mnist_jax.errors import UserError, first_line
from mnist_jax.processes import from_first, is_first
from mnist_jax.results import replace_file

DIGESTS = "sha256.json"  # the last file of a checkpoint


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      epoch: its number.
      arrays: name -> array, the state.
      history: JSON's, of all epochs so far.
    """

    epoch: int
    arrays: Mapping[str, np.ndarray]
    history: Any


class Checkpoints:
    """Checkpoints in a folder, a number an epoch.

    Args:
      folder: made with the first one.
      every: how many epochs apart; a run's last epoch always gets one.
      keep: how many of a run stay while it is under way, the newest.
      keep_last: whether a run's last one stays when it is over.
      notify: is told in a sentence of a checkpoint that is damaged.

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
        notify: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        for what, number in (("epochs from one checkpoint to the next", every), ("checkpoints kept", keep)):
            if number < 1:
                raise UserError(f"The number of {what} must be at least 1, not {number}.")
        self._folder, self._every, self._keep = folder.absolute(), every, keep
        self._keep_last, self._notify = keep_last, notify

    def of(self, name: str) -> "Checkpoints":
        """Those of the runs called `name`, in a folder below this one."""
        folder = self._folder / name
        return Checkpoints(folder, every=self._every, keep=self._keep, keep_last=self._keep_last, notify=self._notify)

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether epoch number `epoch` of `epochs` gets a checkpoint."""
        return epoch % self._every == 0 or epoch == epochs

    def save(self, epoch: int, arrays: Mapping[str, np.ndarray], history: Any) -> None:
        """Write a checkpoint: it is there whole or not at all, and those before it stay till then.

        Args:
          epoch: its number, above those that are there.
          arrays: name -> array.
          history: JSON's.

        Raises:
          UserError: it cannot be written.
        """
        from_first(lambda: self._save(epoch, arrays, history))

    def _save(self, epoch: int, arrays: Mapping[str, np.ndarray], history: Any) -> None:
        import orbax.checkpoint as ocp

        items = ocp.args.Composite(state=ocp.args.StandardSave(dict(arrays)), history=ocp.args.JsonSave(history))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _check_space(self._folder, 2 * sum(array.nbytes for array in arrays.values()))
            self._remove_unfinished()
            with _manager(self._folder) as manager:
                if not manager.save(epoch, args=items):
                    raise FileExistsError(f"there is one of epoch {epoch} already")
            folder = self._folder / str(epoch)
            replace_file(folder / DIGESTS, json.dumps(_digests(folder)).encode())
            for old in _epochs(self._folder)[self._keep :]:
                self._remove(old)
        except Exception as error:  # of many kinds: Orbax's, TensorStore's, the system's
            raise UserError(
                f"A checkpoint cannot be written to {self._folder} ({first_line(error)}); those before it are there: "
                "put that right and go on with --resume."
            ) from error

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones after it are removed, and said to be."""
        epoch = from_first(self._newest_whole)
        return None if epoch is None else _read(self._folder, epoch)

    def _newest_whole(self) -> int | None:
        self._remove_unfinished()
        for epoch in _epochs(self._folder):
            if _is_whole(self._folder / str(epoch)):
                return epoch
            self._notify(f"The checkpoint of epoch {epoch} in {self._folder} is damaged; the one before it is used.")
            self._remove(epoch)
        return None

    def _remove_unfinished(self) -> None:
        """Those of a process that was killed while it wrote or removed them."""
        for epoch in _epochs(self._folder):
            if not (self._folder / str(epoch) / DIGESTS).exists():
                self._remove(epoch)

    def _remove(self, epoch: int) -> None:
        folder = self._folder / str(epoch)
        (folder / DIGESTS).unlink(missing_ok=True)  # first: half removed it counts as not finished
        shutil.rmtree(folder)

    def finish(self) -> None:
        """The runs are over: keep their last checkpoint or none."""
        if is_first() and not self._keep_last:
            shutil.rmtree(self._folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # others' are there
                self._folder.parent.rmdir()


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, of those that a `Checkpoints` has in `folder` or is just writing there.

    Nothing in the folder is changed, so that a net can be looked at while it is trained.

    Raises:
      UserError: it cannot be read.
    """
    folder = folder.absolute()
    for epoch in _epochs(folder):
        if _is_whole(folder / str(epoch)):
            try:
                return _read(folder, epoch, read_only=True)
            except UserError:
                if (folder / str(epoch)).exists():
                    raise
                return last_checkpoint(folder)  # that training has removed meanwhile, and newer ones are there
    return None


def _epochs(folder: Path) -> list[int]:
    """Of the checkpoints that are there, the newest first."""
    folders = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    numbers = (int(path.name) for path in folders if re.fullmatch("0|[1-9][0-9]{0,9}", path.name))
    return sorted(numbers, reverse=True)


def _read(folder: Path, epoch: int, *, read_only: bool = False) -> Checkpoint:
    import orbax.checkpoint as ocp

    wanted = ocp.args.Composite(state=ocp.args.StandardRestore(), history=ocp.args.JsonRestore())
    try:
        with _manager(folder, read_only=read_only) as manager:
            found = manager.restore(epoch, args=wanted)
    except Exception as error:  # its files are what was written, so by another version or somebody else
        raise UserError(
            f"The checkpoint of epoch {epoch} in {folder} cannot be read ({first_line(error)}); train anew in another "
            "folder."
        ) from error
    return Checkpoint(epoch, {name: np.asarray(array) for name, array in found.state.items()}, found.history)


def _manager(folder: Path, *, read_only: bool = False) -> Any:
    import orbax.checkpoint as ocp

    own = jax.process_index()
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            create=False,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,  # of a process that was killed
            # The arrays are whole in every process: each acts for itself, and waits for no other.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process {own}"
            ),
        ),
    )


def _check_space(folder: Path, size: int) -> None:
    """Raise OSError where so many bytes do not fit: when Orbax finds that out, its threads print tracebacks."""
    if hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)


def _digests(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 of each file of a checkpoint: Orbax would not notice a flipped bit."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / DIGESTS
    }


def _is_whole(folder: Path) -> bool:
    try:
        return json.loads((folder / DIGESTS).read_bytes()) == _digests(folder)
    except (OSError, ValueError, RecursionError):  # the last of JSON nested thousands deep
        return False
