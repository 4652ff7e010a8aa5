"""What does each lesson's change buy?

    python experiments/ladder.py --split notebooks --seeds 5 --data FOLDER --out DIR

trains the six lessons and writes to DIR: `results.json` (every seed, every epoch), `table.md` and `ladder.png`.
"""

import dataclasses
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro

from mnist_jax import published
from mnist_jax.data import Dataset
from mnist_jax.display import EpochProgress, data_words, load_data, make_console, markdown_table, table, watch
from mnist_jax.errors import UserError, exit_on_user_error
from mnist_jax.experiment import EPOCHS, check_run, record, train_lesson
from mnist_jax.figures import ladder_figure
from mnist_jax.lessons import LESSONS, lesson_by_id, what_changed
from mnist_jax.results import claim_folder, command_line, describe_run, write_file, write_results

HEADER = ["lesson", "what it changes", "test accuracy", "gain", "notebook", "difference"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train the six lessons and show what each one's change does to test accuracy.

    Attributes:
      lessons: which, in the order of the course.
      seeds: how many runs of each lesson; run k of every lesson has seed k, so all share its order of examples.
      epochs: of each run.
      data: auto, tfds, sample, or a folder with MNIST's files or TFDS data.
      data_dir: TFDS's folder, if not its standard one.
      split: slides (55,000 / 5,000 / 10,000) or notebooks (60,000 / none / 10,000).
      out: folder for results, new or without a run; by default runs/ladder-DATE-TIME.
    """

    lessons: tuple[str, ...] = tuple(LESSONS)
    seeds: int = 1
    epochs: int = EPOCHS
    data: str = "auto"
    data_dir: Path | None = None
    split: str = "slides"
    out: Path | None = None


def run(arguments: Arguments) -> None:
    """Train, print the table, write the files."""
    chosen = {lesson_id: lesson_by_id(lesson_id) for lesson_id in sorted(set(arguments.lessons), key=_position)}
    if not chosen:
        raise UserError(f"At least one lesson is needed: {', '.join(LESSONS)}.")
    seeds = range(arguments.seeds)
    data = load_data(arguments.data, arguments.split, arguments.data_dir)
    for lesson in chosen.values():
        check_run(lesson, data, seeds=seeds, epochs=arguments.epochs)
    folder = claim_folder(arguments.out, "ladder")
    results = describe_run(
        data,
        chosen,
        command=command_line("python experiments/ladder.py"),
        seeds=list(seeds),
        epochs=arguments.epochs,
    )
    console = make_console()
    console.print(data_words(data), soft_wrap=True)
    with EpochProgress(console, runs=len(chosen) * len(seeds), epochs=arguments.epochs) as progress:
        for lesson_id, lesson in chosen.items():
            epochs = train_lesson(lesson, data, seeds=seeds, epochs=arguments.epochs)
            results["lessons"][lesson_id] = record(watch(epochs, lesson_id, progress))
    compared = [key for key, lesson in chosen.items() if published.comparable(key, lesson, data, arguments.epochs)]
    rows = ladder_rows(results["lessons"], compared)
    title = ladder_title(data, len(seeds), arguments.epochs, results["environment"]["device"])
    write_file(folder / "table.md", f"{title}\n\n{markdown_table(HEADER, rows)}".encode())
    write_file(folder / "ladder.png", ladder_figure(results["lessons"], compared, title))
    write_results(folder, results)
    console.print(table(title, HEADER, rows))
    console.print(f"wrote {folder / 'table.md'}, {folder / 'ladder.png'} and results.json", soft_wrap=True)


def ladder_rows(lessons: Mapping[str, Mapping[str, Any]], compared: list[str]) -> list[list[str]]:
    """The table's cells, a row a lesson.

    Args:
      lessons: id -> its entry in results.json.
      compared: ids whose notebook's figure is comparable.
    """
    rows = []
    means: dict[int, float] = {}
    for lesson_id, entry in lessons.items():
        finals = [run[-1] for run in entry["test_accuracy"]]
        mean = means[_position(lesson_id)] = statistics.mean(finals)
        spread = f" ± {100 * statistics.stdev(finals):.2f}" if len(finals) > 1 else ""
        diverged = sum(entry["diverged"])
        before = means.get(_position(lesson_id) - 1)
        printed = None
        if lesson_id in compared:
            printed = published.accuracies(lesson_id)[max(map(len, entry["test_accuracy"])) - 1]
        rows.append(
            [
                lesson_id,
                what_changed(lesson_id),
                f"{100 * mean:.2f}{spread} %" + (f" ({diverged} diverged)" if diverged else ""),
                "" if before is None else f"{100 * (mean - before):+.2f}",
                "" if printed is None else f"{100 * printed:.2f} %",
                "" if printed is None else f"{100 * (mean - printed):+.2f}",
            ]
        )
    return rows


def ladder_title(data: Dataset, seeds: int, epochs: int, device: str) -> str:
    """What was run, on what."""
    runs = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "1 seed"
    return f"{data_words(data)}; {epochs} epochs; {runs}; {device}"


def _position(lesson_id: str) -> int:
    """Its place in the course; an unknown id comes last, to be refused with its name."""
    return list(LESSONS).index(lesson_id) if lesson_id in LESSONS else len(LESSONS)


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(tyro.cli(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
