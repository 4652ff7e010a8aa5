"""A study from the command line: its folder keeps finished parts, which are not repeated, and progress is shown."""

import contextlib
import dataclasses
import functools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from mnist_jax.cli.arguments import KeepingArguments, OutArguments
from mnist_jax.cli.interrupts import ends_at_once
from mnist_jax.cli.terminal import EpochProgress, notifier, runnable, with_time_left
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.files import RESULTS, write_files, write_results
from mnist_jax.runs.journal import Journal, open_study
from mnist_jax.runs.loop import check_runs, train_runs
from mnist_jax.runs.provenance import command_line, describe_run
from mnist_jax.runs.records import Epoch, Run, RunRecord, ended_runs, lesson_entry, runs_of_seeds
from mnist_jax.runs.threads import call_in_turn
from mnist_jax.views.tensorboard import EventFiles, Point, epoch_points


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study under way; `begin_study` makes one.

    Attributes:
      folder: folder of the study.
      data: digits that are studied.
      journal: journal of finished runs.
      event_files: event files for TensorBoard.
      console: console to print to.
    """

    folder: Path
    data: Dataset
    journal: Journal
    event_files: EventFiles
    console: Console

    @contextlib.contextmanager
    def training(
        self,
        keeping: KeepingArguments,
        *,
        runs: int,
        epochs: int,
        placement: Placement = Placement(),
        in_bulk: bool = False,
    ) -> Iterator["Training"]:
        """Train within this block.

        Args:
          keeping: the user's options for checkpoints.
          runs: number of runs of the whole study.
          epochs: number of epochs of each run.
          placement: how runs are placed on devices.
          in_bulk: whether to print only the last epoch of each run, and to keep no checkpoint.
        """
        checkpoints = keeping.checkpoints(self.folder, self.console, keep_last=not in_bulk)
        left = runs - sum("test_correct" in entry for entry in self.journal)
        with EpochProgress(self.console, self.data, runs=left, epochs=epochs) as progress:
            yield Training(self, epochs, placement, in_bulk, checkpoints, progress)
        if in_bulk:
            checkpoints.finish_groups()

    def measure(
        self,
        parts: Sequence[Mapping[str, Any]],
        function: Callable[..., Mapping[str, Any]],
        points: Callable[[Mapping[str, Any]], Iterable[Point]] | None = None,
    ) -> list[dict[str, Any]]:
        """The results of a function for each part; parts that the journal holds are not measured again.

        Args:
          parts: names and values that identify a part within the study, and are the function's arguments.
          function: measures a part; returns a value for JSON.
          points: makes points for TensorBoard from a part's results; None draws nothing.

        Returns:
          For each part its names and values, and its results.
        """
        names = list(parts[0])
        known = {tuple(entry[name] for name in names): entry for entry in self.journal if set(names) <= set(entry)}

        def folders(part: Mapping[str, Any]) -> list[str]:
            return [value if isinstance(value, str) else f"{name}-{value}" for name, value in part.items()]

        def draw(part: Mapping[str, Any], found: Mapping[str, Any]) -> None:
            if points is not None:
                self.event_files.complete(folders(part), points(found))

        for part in parts:
            if (key := tuple(part.values())) in known:
                draw(part, known[key])
        left = {tuple(folders(part)): part for part in parts if tuple(part.values()) not in known}
        for label in with_time_left(list(left), self.console):
            part = left[label]
            found = {**part, **function(**part)}
            draw(part, found)
            self.journal.add(found)
            known[tuple(part.values())] = found
        return [known[tuple(part.values())] for part in parts]


@dataclasses.dataclass(frozen=True)
class Training:
    """Trains a study's runs; `Study.training` makes one and describes the attributes."""

    study: Study
    epochs: int
    placement: Placement
    in_bulk: bool
    checkpoints: Checkpoints
    progress: EpochProgress

    def train(
        self, part: Mapping[str, str], lesson: Lesson, runs: Sequence[Run], test_every: int | None = None
    ) -> list[RunRecord]:
        """Train runs and return their records, in order; runs that the journal holds are not trained again.

        Args:
          part: names that, with hyperparameters and seed, identify a run within the study.
          lesson: lesson to train.
          runs: at least one, all with the same hyperparameters.
          test_every: see `train_runs`.
        """
        epochs, records = self._begun(part, lesson, runs, test_every)
        for keep in epochs(self.placement):
            keep()
        return [records[run] for run in runs]

    def train_lessons(
        self,
        lessons: Mapping[str, Lesson],
        runs: Sequence[Run],
        placements: Sequence[Placement],
        keep: Callable[[str, list[RunRecord]], object],
    ) -> None:
        """Train the same runs of several lessons, one lesson at a time on each placement.

        Args:
          lessons: id -> lesson; they begin in this order.
          runs: see `train`.
          placements: placements that share no device, see `Placement.apart`.
          keep: called with a lesson's id and its records when it ends.
        """
        begun = {lesson_id: self._begun({"lesson": lesson_id}, lesson, runs) for lesson_id, lesson in lessons.items()}
        waiting = iter(begun.items())  # shared: each placement takes the next one

        def work(placement: Placement) -> Iterator[Callable[[], object]]:
            for lesson_id, (epochs, records) in waiting:
                yield from epochs(placement)
                yield functools.partial(keep, lesson_id, [records[run] for run in runs])

        call_in_turn([work(placement) for placement in placements])

    def _begun(
        self, part: Mapping[str, str], lesson: Lesson, runs: Sequence[Run], test_every: int | None = None
    ) -> tuple[Callable[[Placement], Iterator[Callable[[], object]]], dict[Run, RunRecord]]:
        """A function that trains the runs of `train` on a placement, and their records, to which it adds.

        For each epoch it yields a function that shows and keeps the epoch.
        """
        journal, event_files, data = self.study.journal, self.study.event_files, self.study.data

        def key(run: Run) -> dict[str, Any]:
            return {**part, **dict(run.hyperparameters), "seed": run.seed}

        def folders(run: Run) -> list[str]:
            return [*part.values(), *(f"{value:g}" for _, value in run.hyperparameters), f"seed-{run.seed}"]

        names = list(key(runs[0]))
        known = {tuple(map(entry.get, names)): entry for entry in journal}
        records = {run: RunRecord.from_json(known[k]) for run in runs if (k := tuple(key(run).values())) in known}
        steps = {"steps_per_epoch": data.steps(lesson), "test_every": test_every or 0}
        for run, record in records.items():
            event_files.complete(folders(run), epoch_points(record.epochs(run), data, **steps))

        def keep(epoch: Epoch, ended: RunRecord | None) -> None:
            event_files.add(folders(epoch.run), epoch, data, **steps)
            values = [f"{name.replace('_', ' ')} {value:g}" for name, value in epoch.run.hyperparameters]
            label = ", ".join(["  ".join(part.values()), *values])
            self.progress.show(label, epoch, line=ended is not None or not self.in_bulk)
            if ended is not None:
                records[epoch.run] = ended
                journal.add({**key(epoch.run), **ended.to_json()})

        def epochs(placement: Placement) -> Iterator[Callable[[], object]]:
            trained = train_runs(
                lesson,
                data,
                runs,
                epochs=self.epochs,
                placement=placement,
                test_every=test_every,
                checkpoints=self.checkpoints if self.in_bulk else self.checkpoints.of("-".join(part.values())),
                done=list(records),
            )
            for epoch, ended in ended_runs(trained, self.epochs):
                yield functools.partial(keep, epoch, ended)

        return epochs, records


@contextlib.contextmanager
def begin_study(
    described: Mapping[str, Any], data: Dataset, keeping: OutArguments, console: Console, *, name: str | None = None
) -> Iterator[Study]:
    """Run a study within this block, in a new folder or in that of an interrupted one.

    Args:
      described: what `describe_run` returns.
      data: digits that are studied.
      keeping: the user's options for the folder, resuming and event files.
      console: console to print to.
      name: name of a new folder, if not the study's.

    Raises:
      UserError: results cannot be kept as the user asks, or a net does not fit in memory.
    """
    keeping.check()
    folder, journal = open_study(
        keeping.out, name or described["study"], described, resume=keeping.resume, notify=notifier(console)
    )
    with journal, ends_at_once(how_to_continue(folder, described)), _memory_error():
        yield Study(
            folder=folder,
            data=data,
            journal=journal,
            event_files=EventFiles(folder, on=keeping.tensorboard),
            console=console,
        )


def finish(folder: Path, results: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """Write results.json, and files beside it: name -> content.

    Returns:
      A message that names the files.
    """
    write_results(folder, results)
    return f"wrote {', '.join(map(str, [folder / RESULTS, *write_files(folder, files)]))}"


def how_to_continue(folder: Path, described: Mapping[str, Any]) -> str:
    """How to continue after an interruption: the command as it was typed, or can be, and the folder."""
    command = described["config"]["command"]
    if not any(word.partition("=")[0] == "--out" for word in shlex.split(command)):
        command += f" --out {shlex.quote(str(folder))}"
    return f"`{runnable(command)} --resume` continues"


@contextlib.contextmanager
def _memory_error() -> Iterator[None]:
    """Turn JAX's out-of-memory error into a `UserError`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        # The first is from GPUs and TPUs, the second from CPUs.
        if not any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory")):
            raise
        raise UserError("The net does not fit in this device's memory; make its hidden layers smaller.") from error


def run_lessons(
    study: str,
    lessons: Mapping[str, Lesson],
    data: Dataset,
    keeping: KeepingArguments,
    console: Console,
    *,
    seeds: Sequence[int],
    epochs: int,
    devices_per_run: int = 1,
) -> tuple[Path, dict[str, Any]]:
    """Train every lesson with every seed, several lessons at the same time if there are devices for that.

    results.json is written after each lesson. Each finished run is in the journal at once; its last checkpoint stays.

    Args:
      study: name of the study; `train` trains one lesson, after which a new folder is named.
      lessons: id -> lesson.
      data: digits to train on.
      keeping: the user's options for the folder, resuming, checkpoints and event files.
      console: console to print to.
      seeds: run k of every lesson has seed k, so all share its order of examples.
      epochs: number of epochs of each run.
      devices_per_run: number of devices over which each run is split.

    Returns:
      The folder, and what results.json holds.

    Raises:
      UserError: something cannot be run or written, found before training; or a net does not fit in memory.
    """
    runs = runs_of_seeds(seeds)
    placement = Placement(devices_per_run=devices_per_run)
    for lesson in lessons.values():
        check_runs(lesson, data, runs, epochs=epochs, placement=placement)
    program, name = ("mnist-jax", next(iter(lessons))) if study == "train" else (f"python experiments/{study}.py", None)
    described = describe_run(study, data, lessons, command=command_line(program), seeds=list(seeds), epochs=epochs)
    placements = placement.apart(len(runs), most=len(lessons))
    described["environment"] |= {"devices_per_run": devices_per_run, "lessons_at_a_time": len(placements)}
    with begin_study(described, data, keeping, console, name=name) as begun:
        results: dict[str, Any] = {**begun.journal.header, "lessons": {}}
        count = len(lessons) * len(runs)

        def keep(lesson_id: str, records: Sequence[RunRecord]) -> None:
            ended = {**results["lessons"], lesson_id: lesson_entry(records)}
            results["lessons"] = {name: ended[name] for name in lessons if name in ended}
            write_results(begun.folder, results)

        with begun.training(keeping, runs=count, epochs=epochs) as training:
            training.train_lessons(lessons, runs, placements, keep)
    return begun.folder, results
