"""Training one or several lessons from the command line: progress shown, results written."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from mnist_jax.data import Dataset
from mnist_jax.display import EpochProgress, watch
from mnist_jax.errors import UserError
from mnist_jax.experiment import check_run, record, train_lesson
from mnist_jax.lessons import Lesson
from mnist_jax.results import claim_folder, describe_run, given_up_if_empty, write_results


def run_lessons(
    lessons: Mapping[str, Lesson],
    data: Dataset,
    *,
    seeds: Sequence[int],
    epochs: int,
    out: Path | None,
    name: str,
    command: str,
    console: Console,
) -> tuple[Path, dict[str, Any]]:
    """Train every lesson with every seed, and write results.json after each lesson.

    Args:
      lessons: id -> lesson.
      data: what to train on.
      seeds: run k of every lesson has seed k, so all share its order of examples.
      epochs: of each run.
      out: the user's folder; None is a new one in `runs/` named after `name`.
      name: of the run.
      command: what makes these results again.
      console: where progress is shown.

    Returns:
      The folder, and what results.json holds.

    Raises:
      UserError: what cannot run or be written, before anything is trained; a net that does not fit in memory.
    """
    for lesson in lessons.values():
        check_run(lesson, data, seeds=seeds, epochs=epochs)
    folder = claim_folder(out, name)
    results = describe_run(data, lessons, command=command, seeds=list(seeds), epochs=epochs)
    progress = EpochProgress(console, runs=len(lessons) * len(seeds), epochs=epochs)
    write_results(folder, results)
    with given_up_if_empty(folder), progress, _memory_error():
        for lesson_id, lesson in lessons.items():
            trained = train_lesson(lesson, data, seeds=seeds, epochs=epochs)
            results["lessons"][lesson_id] = record(watch(trained, lesson_id, progress))
            write_results(folder, results)
    return folder, results


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
