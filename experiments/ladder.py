"""What does each lesson's change buy?

    python experiments/ladder.py --split notebooks --seeds 5 --data FOLDER --out DIR

trains the six lessons and writes to DIR: `results.json` (every seed, every
epoch), `table.md`, `ladder.png` (accuracy and loss) and `gains.png` (each lesson minus the one before).
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from mnist_jax import published
from mnist_jax.display import load_data, make_console, markdown_table, table
from mnist_jax.errors import UserError, exit_on_user_error
from mnist_jax.experiment import EPOCHS
from mnist_jax.figures import gains_figure, ladder_figure
from mnist_jax.lessons import LESSONS, lesson_by_id, what_changed
from mnist_jax.results import RESULTS, command_line, what_was_run, write_file
from mnist_jax.startup import parsed, start_jax
from mnist_jax.stats import ladder_gains, mean_interval, paired_difference
from mnist_jax.study import RunArguments, run_lessons


@dataclasses.dataclass(frozen=True)
class Arguments(RunArguments):
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
    start_jax(arguments)
    data = load_data(arguments.data, arguments.split, arguments.data_dir)
    console = make_console()
    folder, results = run_lessons(
        chosen,
        data,
        seeds=range(arguments.seeds),
        epochs=arguments.epochs,
        arguments=arguments,
        out=arguments.out,
        name="ladder",
        command=command_line("python experiments/ladder.py"),
        console=console,
    )
    written = write_report(folder, results)
    console.print(table(what_was_run(results), header(results), rows(results)))
    for sentence in [*notes(results), *surprises(results)]:
        console.print(sentence, soft_wrap=True)
    console.print(f"wrote {', '.join(map(str, [folder / RESULTS, *written]))}", soft_wrap=True)


def write_report(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """Write the table and the figures of results.json; returns the files."""
    what = what_was_run(results)
    sentences = "".join(f"\n{sentence}\n" for sentence in surprises(results))
    text = f"{markdown_table(header(results), rows(results))}\n{what}. {' '.join(notes(results))}\n{sentences}"
    content = {
        "table.md": text.encode(),
        "ladder.png": ladder_figure(results, what),
        "gains.png": gains_figure(results, what),
    }
    written = {folder / name: data for name, data in content.items() if data is not None}
    for path, data in written.items():
        write_file(path, data)
    return list(written)


def notes(results: Mapping[str, Any]) -> list[str]:
    """How to read the table."""
    if len(results["config"]["seeds"]) > 1:
        lines = ["Accuracy: mean ± standard deviation; gain: over the lesson before, paired, 95 % confidence interval."]
    else:
        lines = ["One seed cannot tell a small gain from chance; --seeds 5 can."]
    if not _compared(results):
        lines.append("What the notebooks printed stands beside results on all of MNIST with --split notebooks.")
    return lines


def _compared(results: Mapping[str, Any]) -> bool:
    return published.comparable(results["data"], results["config"]["epochs"])


def surprises(results: Mapping[str, Any]) -> list[str]:
    """A sentence for each lesson whose change made the net worse, where several seeds can tell."""
    sentences = []
    for (before, after), epochs in ladder_gains(results).items():
        if len(epochs[-1]) < 2 or (last := mean_interval(epochs[-1])).high >= 0:
            continue
        means = [statistics.mean(epoch) for epoch in epochs]
        worst = min(means)
        sentences.append(
            f"`{after}` does worse than `{before}`: {last.mean:+.2f} points [{last.low:+.2f}, {last.high:+.2f}] "
            f"at the end, {worst:+.2f} at its worst, epoch {1 + means.index(worst)} (gains.png)."
        )
    return sentences


def header(results: Mapping[str, Any]) -> list[str]:
    """The table's columns."""
    notebook = ["notebook", "difference"] if _compared(results) else []
    return ["lesson", "what it changes", "test accuracy", "gain", *notebook, "seconds/epoch"]


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells, a row a lesson."""
    cells = []
    finals: dict[int, list[float]] = {}
    for lesson_id, entry in results["lessons"].items():
        position = _position(lesson_id)
        percent = finals[position] = [100 * run[-1] for run in entry["test_accuracy"]]
        mean = statistics.mean(percent)
        spread = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
        diverged = f" ({sum(entry['diverged'])} diverged)" if any(entry["diverged"]) else ""
        notebook = []
        if _compared(results):
            printed = 100 * published.accuracies(lesson_id)[results["config"]["epochs"] - 1]
            notebook = [f"{printed:.2f} %", f"{mean - printed:+.2f}"]
        cells.append(
            [
                lesson_id,
                what_changed(lesson_id),
                f"{mean:.2f}{spread} %{diverged}",
                gain(percent, finals[position - 1]) if position - 1 in finals else "",
                *notebook,
                f"{statistics.median(second for run in entry['seconds'] for second in run):.1f}",
            ]
        )
    return cells


def gain(percent: Sequence[float], before: Sequence[float]) -> str:
    """Percentage points over the lesson before, seed by seed, and whether that is different from zero."""
    if len(percent) == 1:
        return f"{percent[0] - before[0]:+.2f}"
    difference = paired_difference(percent, before)
    verdict = "" if difference.excludes_zero else ", not different from 0"
    return f"{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]{verdict}"


def _position(lesson_id: str) -> int:
    """Its place in the course; an unknown id comes last, to be refused with its name."""
    return list(LESSONS).index(lesson_id) if lesson_id in LESSONS else len(LESSONS)


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(lambda: tyro.cli(Arguments, description=__doc__)))


if __name__ == "__main__":
    main()
