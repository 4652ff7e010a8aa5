"""Studies from the command line: lessons or optimizers are trained, progress shown, results written."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from mnist_jax.cli.arguments import ComparisonArguments, KeepingArguments
from mnist_jax.cli.interrupts import ends_at_once
from mnist_jax.cli.terminal import EpochProgress, notifier, table
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson, lesson_by_id
from mnist_jax.runs.files import RESULTS, write_files, write_results
from mnist_jax.runs.journal import open_study
from mnist_jax.runs.loop import check_run, train_lesson
from mnist_jax.runs.provenance import command_line, describe_run
from mnist_jax.runs.records import Run, ended_runs, lesson_record, run_record
from mnist_jax.studies.tuning import Budget, Contestant, check_comparison, compare
from mnist_jax.views.comparison import (
    FINAL_HEADER,
    QUICK_NOTICE,
    TUNING_HEADER,
    final_rows,
    tuning_rows,
    what_was_compared,
)
from mnist_jax.views.tensorboard import EventFiles, epoch_points

# What --quick makes of an epoch of 55,000 examples.
_QUICK_EPOCH = 8_000


def run_lessons(
    lessons: Mapping[str, Lesson],
    data: Dataset,
    *,
    seeds: Sequence[int],
    epochs: int,
    devices_per_run: int = 1,
    keeping: KeepingArguments,
    study: str,
    name: str | None = None,
    command: str,
    console: Console,
) -> tuple[Path, dict[str, Any]]:
    """Train every lesson with every seed, and write results.json after each lesson.

    Each finished run is in the journal at once, and its last checkpoint stays.

    Args:
      lessons: id -> lesson.
      data: what to train on.
      seeds: run k of every lesson has seed k, so all share its order of examples.
      epochs: of each run.
      devices_per_run: as in `train_runs`.
      keeping: the user's folder, whether it is resumed, checkpoints and event files.
      study: its name.
      name: of a new folder, if not the study's.
      command: what makes these results again.
      console: where progress is shown.

    Returns:
      The folder, and what results.json holds.

    Raises:
      UserError: what cannot run or be written, before anything is trained; a net that does not fit in memory.
    """
    for lesson in lessons.values():
        check_run(lesson, data, seeds=seeds, epochs=epochs, devices_per_run=devices_per_run)
    keeping.check()
    described = describe_run(study, data, lessons, command=command, seeds=list(seeds), epochs=epochs)
    notify = notifier(console)
    folder, journal = open_study(keeping.out, name or study, described, resume=keeping.resume, notify=notify)
    results: dict[str, Any] = {**journal.header, "lessons": {}}
    checkpoints = keeping.checkpoints(folder, console, keep_last=True)
    with journal, ends_at_once(how_to_go_on(folder)), _memory_error():
        event_files = EventFiles(folder, on=keeping.tensorboard)
        runs = len(lessons) * len(seeds) - len(list(journal))
        with EpochProgress(console, data, runs=runs, epochs=epochs) as progress:
            for lesson_id, lesson in lessons.items():
                done = {entry["seed"]: entry for entry in journal if entry["lesson"] == lesson_id}
                for seed, entry in done.items():
                    event_files.complete((lesson_id, f"seed-{seed}"), epoch_points(entry, data))
                if len(done) < len(seeds):
                    trained = train_lesson(
                        lesson,
                        data,
                        seeds=seeds,
                        done=[Run(seed) for seed in done],
                        epochs=epochs,
                        devices_per_run=devices_per_run,
                        checkpoints=checkpoints.of(lesson_id),
                    )
                    for epoch, run in ended_runs(trained, epochs):
                        event_files.add((lesson_id, f"seed-{epoch.run.seed}"), epoch, data)
                        progress.show(lesson_id, epoch)
                        if run is not None:
                            done[epoch.run.seed] = {"lesson": lesson_id, **run_record(run)}
                            journal.add(done[epoch.run.seed])
                results["lessons"][lesson_id] = lesson_record([done[seed] for seed in seeds])
                write_results(folder, results)
    return folder, results


def how_to_go_on(folder: Path) -> str:
    """A sentence for those who were interrupted."""
    return f"the same command with --out {folder} --resume goes on"


def run_comparison(
    groups: Mapping[str, Sequence[Contestant]], arguments: ComparisonArguments, name: str, console: Console
) -> tuple[Path, dict[str, Any]]:
    """Compare optimizers on a lesson's net, split `slides`, going on where an interrupted comparison was.

    Args:
      groups: as in `tuning.compare`.
      arguments: the user's; `quick` shortens the epochs and says so.
      name: of the study and its script.
      console: where progress is shown.

    Returns:
      The folder, and what results.json will hold.

    Raises:
      UserError: what cannot run or be written, before anything is trained; a net that does not fit in memory.
    """
    lesson = lesson_by_id(arguments.lesson)
    budget = Budget.of_counts(
        arguments.tuning_seeds,
        arguments.final_seeds,
        epochs=arguments.epochs,
        side_by_side=arguments.side_by_side,
    )
    keeping = arguments.keeping
    data = arguments.digits.load("slides")
    if arguments.quick:
        data = dataclasses.replace(data, epoch_length=min(_QUICK_EPOCH, data.epoch_length))
        console.print(QUICK_NOTICE, style="bold red", soft_wrap=True)
    check_comparison(lesson, data, budget)
    keeping.check()
    described = describe_run(
        name,
        data,
        {arguments.lesson: lesson},
        command=command_line(f"python experiments/{name}.py"),
        contestants=[dataclasses.asdict(contestant) for group in groups.values() for contestant in group],
        **dataclasses.asdict(budget),
        steps_per_epoch=math.ceil(data.epoch_length / lesson.batch_size),
        quick=arguments.quick,
    )
    notify = notifier(console)
    folder, journal = open_study(keeping.out, name, described, resume=keeping.resume, notify=notify)
    checkpoints = keeping.checkpoints(folder, console, keep_last=False)
    console.print(f"Every epoch is kept at once; interrupted, {how_to_go_on(folder)}", soft_wrap=True)
    with journal, ends_at_once(how_to_go_on(folder)), _memory_error():
        compared = compare(
            groups,
            lesson,
            data,
            budget,
            journal=journal,
            checkpoints=checkpoints,
            event_files=EventFiles(folder, on=keeping.tensorboard),
            console=console,
        )
    return folder, {**journal.header, **compared}


def finish_comparison(
    folder: Path, results: Mapping[str, Any], sentences: Sequence[str], files: Mapping[str, bytes], console: Console
) -> None:
    """Write results.json and the other files of a comparison, and show its tables.

    Args:
      folder: of the study.
      results: what results.json holds.
      sentences: the verdict.
      files: file name -> content, table and figures.
      console: console to print to.
    """
    write_results(folder, results)
    written = [folder / RESULTS, *write_files(folder, files)]
    console.print(table("Tuning, on validation images", TUNING_HEADER, tuning_rows(results)))
    console.print(table(what_was_compared(results), FINAL_HEADER, final_rows(results)))
    for sentence in sentences:
        console.print(sentence, style="bold", soft_wrap=True)
    if results["config"]["quick"]:
        console.print(QUICK_NOTICE, style="bold red", soft_wrap=True)
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)


@contextlib.contextmanager
def _memory_error() -> Iterator[None]:
    """JAX's out-of-memory error as a sentence."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        # GPUs and TPUs say the one, CPUs the other.
        if not any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory")):
            raise
        raise UserError("The net does not fit in this device's memory; make its hidden layers smaller.") from error
