"""Training one or several lessons from the command line: progress shown, results written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mnist_jax.data import Dataset
from mnist_jax.display import EpochProgress, watch
from mnist_jax.experiment import check_run, record, train_lesson
from mnist_jax.lessons import Lesson
from mnist_jax.results import claim_folder, describe_run, write_results


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
      UserError: what cannot run or be written, before anything is trained.
    """
    for lesson in lessons.values():
        check_run(lesson, data, seeds=seeds, epochs=epochs)
    folder = claim_folder(out, name)
    results = describe_run(data, lessons, command=command, seeds=list(seeds), epochs=epochs)
    with EpochProgress(console, runs=len(lessons) * len(seeds), epochs=epochs) as progress:
        for lesson_id, lesson in lessons.items():
            trained = train_lesson(lesson, data, seeds=seeds, epochs=epochs)
            results["lessons"][lesson_id] = record(watch(trained, lesson_id, progress))
            write_results(folder, results)
    return folder, results
