"""Curves for TensorBoard: one event file per run, in folders below the study's."""

import io
import itertools
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError, reason
from mnist_jax.runs.processes import check_same, from_first
from mnist_jax.runs.records import Epoch

FOLDER = "tensorboard"  # in the study's folder
EVENTS = "events.out.tfevents"  # the file of a run; TensorBoard finds it by its name

BY_STEP = "accuracy/test by step"

# A step, and tag -> value there; what is not finite is written as NaN.
Point = tuple[int, Mapping[str, float]]


def check_event_files(on: bool) -> None:
    """Check that event files can be written, before anything slow.

    Args:
      on: whether this process is to write them.

    Raises:
      UserError: tensorboardX is not installed, or the processes have different settings.
    """
    check_same(
        on,
        lambda _: "The processes were started with different arguments; give --tensorboard to all of them or to none.",
    )
    if on:
        from_first(_check_installed)


def _check_installed() -> None:
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError("--tensorboard needs tensorboardX; pip install '.[app]' installs it.") from error


class EventFiles:
    """The event files of a study's runs; only the first process writes.

    No file stays open, so any number of runs may be under way. (tensorboardX's `FileWriter` keeps a thread per run, and
    its flush does not wait for what that thread has still to write.)

    Args:
      study: the study's folder; each run gets a folder in its `tensorboard`.
      on: whether anything is written.

    Raises:
      UserError: the folder cannot be written.
    """

    def __init__(self, study: Path, *, on: bool) -> None:
        self._folder, self._on = study.absolute() / FOLDER, on
        if on:
            from_first(lambda: _make(self._folder))

    def add(self, run: Sequence[str], epoch: Epoch, data: Dataset, **steps: int) -> None:
        """Write an epoch of a run under way to the run's file; epoch 1 begins a new file.

        Args:
          run: names of nested folders, which identify the run.
          epoch: the run's next epoch.
          data: training, validation and test data.
          steps: see `epoch_points`.

        Raises:
          UserError: the file cannot be written.
        """
        if self._on:
            points = epoch_points([epoch], data, **steps)
            from_first(lambda: self._write(run, points, replace=epoch.number == 1))

    def complete(self, run: Sequence[str], points: Iterable[Point]) -> None:
        """Write all points of a finished run, unless its file already has their length; see `add`."""
        if self._on:
            from_first(lambda: self._write(run, points, replace=True, unless_whole=True))

    def _write(self, run: Sequence[str], points: Iterable[Point], *, replace: bool, unless_whole: bool = False) -> None:
        folder = self._folder.joinpath(*map(_file_name, run))
        content = _records(points, begin=replace)
        # A run's points always take the same space, whatever the values: a file of this size has all of them.
        if unless_whole and _size(folder / EVENTS) == len(content):
            return
        _make(folder)
        try:
            # Overwritten, not replaced, so that a TensorBoard that reads it continues there; the content is the same.
            with (folder / EVENTS).open("wb" if replace else "ab") as file:
                file.write(content)
        except OSError as error:
            raise _cannot_write(folder / EVENTS, error) from error


def epoch_points(
    epochs: Iterable[Epoch], data: Dataset, *, steps_per_epoch: int = 0, test_every: int = 0
) -> Iterator[Point]:
    """Points of a run by epoch number and, if it was tested during epochs, by optimizer step.

    Args:
      epochs: all of the run's epochs, or some.
      data: training, validation and test data.
      steps_per_epoch: number of steps per epoch, a last partial batch included; for a run tested during epochs.
      test_every: number of steps between two such tests.
    """
    for epoch in epochs:
        scalars = {"accuracy/test": epoch.test_correct / data.test.size}
        if epoch.validation_correct is not None and data.validation is not None:
            scalars["accuracy/validation"] = epoch.validation_correct / data.validation.size
        scalars |= {"loss/train": epoch.train_loss, "loss/test": epoch.test_loss, "seconds/epoch": epoch.seconds}
        if epoch.learning_rate is not None:
            scalars["learning_rate"] = epoch.learning_rate
        yield epoch.number, scalars
        if epoch.tests:
            within = dict(zip(itertools.count(test_every, test_every), epoch.tests, strict=False))
            for step, correct in {**within, steps_per_epoch: epoch.test_correct}.items():
                yield (epoch.number - 1) * steps_per_epoch + step, {BY_STEP: correct / data.test.size}


def _records(points: Iterable[Point], *, begin: bool) -> bytes:
    """Points as event records; with `begin`, after the event that begins an event file."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter, register_writer_factory

    content, now = io.BytesIO(), time.time()
    # In memory, because the writer truncates every file that it opens.
    register_writer_factory("memory", SimpleNamespace(open=lambda path: content))
    writer = RecordWriter("memory:")
    if begin:
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for step, scalars in points:
        values = [
            Summary.Value(tag=tag, simple_value=value if math.isfinite(value) else math.nan)
            for tag, value in scalars.items()
        ]
        writer.write(Event(wall_time=now, step=step, summary=Summary(value=values)).SerializeToString())
    return content.getvalue()


def _file_name(label: str) -> str:
    """`sgd, momentum 0.9` as `sgd-momentum-0.9`: a file name on every system, and no special characters in a shell."""
    return re.sub(r"[^\w.+-]+", "-", label, flags=re.ASCII)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # the error is reported when it is written
        return None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written ({reason(error)}); fix this, or omit --tensorboard.")
