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
from mnist_jax.display import data_words, load_data, make_console, markdown_table, table
from mnist_jax.errors import UserError, exit_on_user_error
from mnist_jax.experiment import EPOCHS
from mnist_jax.figures import gains_figure, ladder_figure
from mnist_jax.lessons import LESSONS, lesson_by_id, what_changed
from mnist_jax.results import command_line, write_file
from mnist_jax.stats import ladder_gains, mean_interval, paired_difference
from mnist_jax.study import run_lessons

HEADER = ["lesson", "what it changes", "test accuracy", "gain", "notebook", "difference", "seconds/epoch"]


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
    data = load_data(arguments.data, arguments.split, arguments.data_dir)
    console = make_console()
    folder, results = run_lessons(
        chosen,
        data,
        seeds=range(arguments.seeds),
        epochs=arguments.epochs,
        out=arguments.out,
        name="ladder",
        command=command_line("python experiments/ladder.py"),
        console=console,
    )
    write_report(folder, results)
    console.print(table(title(results), HEADER, rows(results)))
    for sentence in surprises(results):
        console.print(sentence, soft_wrap=True)
    console.print(f"wrote {folder / 'ladder.png'}, gains.png, table.md and results.json", soft_wrap=True)


def write_report(folder: Path, results: Mapping[str, Any]) -> None:
    """Write the table and the figure of results.json."""
    sentences = "".join(f"\n{sentence}\n" for sentence in surprises(results))
    text = f"{markdown_table(HEADER, rows(results))}\n{title(results)}.\n{sentences}"
    write_file(folder / "table.md", text.encode())
    write_file(folder / "ladder.png", ladder_figure(results, title(results)))
    if gains := gains_figure(results, title(results)):
        write_file(folder / "gains.png", gains)


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


def title(results: Mapping[str, Any]) -> str:
    """What was run, on what."""
    config = results["config"]
    seeds = len(config["seeds"])
    runs = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "1 seed"
    if seeds > 1:
        runs += ", gain with its 95 % confidence interval over paired seeds"
    return f"{data_words(results['data'])}; {config['epochs']} epochs; {runs}; {results['environment']['device']}"


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells, a row a lesson."""
    compared = published.comparable(results["data"], results["config"]["epochs"])
    cells = []
    finals: dict[int, list[float]] = {}
    for lesson_id, entry in results["lessons"].items():
        position = _position(lesson_id)
        percent = finals[position] = [100 * run[-1] for run in entry["test_accuracy"]]
        mean = statistics.mean(percent)
        spread = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
        diverged = f" ({sum(entry['diverged'])} diverged)" if any(entry["diverged"]) else ""
        printed = 100 * published.accuracies(lesson_id)[results["config"]["epochs"] - 1] if compared else None
        cells.append(
            [
                lesson_id,
                what_changed(lesson_id),
                f"{mean:.2f}{spread} %{diverged}",
                gain(percent, finals[position - 1]) if position - 1 in finals else "",
                "" if printed is None else f"{printed:.2f} %",
                "" if printed is None else f"{mean - printed:+.2f}",
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
        run(tyro.cli(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
