"""Does it matter that PyTorch and Flax keep different running variances?

    python experiments/running_variance.py --data FOLDER --out DIR

Both normalise a training batch of n by its biased variance. In the running average that evaluation uses, Flax keeps
that variance and PyTorch n/(n-1) times it: 1/31 more for the lessons' batches of 32. This trains the lessons with batch
norm and tests each net both ways. Written to DIR: `results.json` and `README.md`.

Answer: no. On average over 5 seeds the two test accuracies differ by at most 0.006 points, and no lesson's difference
is shown to be other than 0. Recorded in experiments/results/running_variance by

    python experiments/running_variance.py --data data/mnist --out experiments/results/running_variance
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from mnist_jax.cli.arguments import DataArguments, JaxArguments, OutArguments, SplitOption, parsed
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.study import begin_study, finish
from mnist_jax.cli.terminal import make_console, table
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS, Lesson
from mnist_jax.runs.devices import on_device
from mnist_jax.runs.files import TABLE
from mnist_jax.runs.loop import EPOCHS, check_runs
from mnist_jax.runs.provenance import command_line, describe_run
from mnist_jax.runs.records import runs_of_seeds
from mnist_jax.studies.stats import paired_difference
from mnist_jax.train import TrainState, evaluate, init_state, train_epoch
from mnist_jax.views.tensorboard import Point
from mnist_jax.views.words import markdown_table, what_was_run

HEADER = ["lesson", "Flax's running variance", "PyTorch's", "difference, 95 % interval", "loss, difference in nats"]

KEPT = ("flax", "pytorch")  # whose running variance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Test every net with batch norm with Flax's running variance and with PyTorch's.

    Attributes:
      seeds: number of runs of each lesson, at least 2.
      epochs: number of epochs of each run.
    """

    seeds: int = 5
    epochs: int = EPOCHS
    split: SplitOption = "notebooks"
    digits: DataArguments = DataArguments()
    keeping: OutArguments = OutArguments()
    jax: JaxArguments = JaxArguments()


def with_pytorch_variance(state: TrainState) -> TrainState:
    """The state with n/(n-1) times its running variances.

    Exact once the initial 1 is forgotten: its weight is 0.9^steps, nothing after a thousand steps.
    """
    n = state.lesson.batch_size
    stats = {
        name: {"mean": layer["mean"], "var": layer["var"] * (n / (n - 1))} for name, layer in state.batch_stats.items()
    }
    return dataclasses.replace(state, batch_stats=stats)


def run(arguments: Arguments) -> None:
    """Train, test twice, and write the results."""
    if arguments.seeds < 2:
        raise UserError(f"An interval needs at least 2 seeds, not {arguments.seeds}.")
    lessons = {lesson_id: lesson for lesson_id, lesson in LESSONS.items() if lesson.batch_norm}
    seeds = range(arguments.seeds)
    start_jax(arguments.jax)
    data = arguments.digits.load(arguments.split)
    for lesson in lessons.values():
        check_runs(lesson, data, runs_of_seeds(seeds), epochs=arguments.epochs)
    described = describe_run(
        "running_variance",
        data,
        lessons,
        command=command_line("python experiments/running_variance.py"),
        seeds=list(seeds),
        epochs=arguments.epochs,
    )
    console, placed = make_console(), on_device(data)
    parts = [{"lesson": lesson_id, "seed": seed} for lesson_id in lessons for seed in seeds]

    def test(lesson: str, seed: int) -> dict[str, dict[str, float]]:
        return tested_twice(lessons[lesson], placed, seed, arguments.epochs)

    def points(found: Mapping[str, Any]) -> list[Point]:
        scalars = {f"accuracy/{kept}": found[kept]["correct"] / data.test.size for kept in KEPT}
        return [(arguments.epochs, scalars | {f"loss/{kept}": found[kept]["loss"] for kept in KEPT})]

    with begin_study(described, data, arguments.keeping, console) as study:
        found = study.measure(parts, test, points)
        results = {**study.journal.header, "lessons": entries(found)}
        wrote = finish(study.folder, results, report(results))
    console.print(table(what_was_run(results), HEADER, rows(results)))
    console.print(wrote, soft_wrap=True)


def entries(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lesson -> its seeds, and for each kind of running variance the metrics of each seed's net."""
    return {
        lesson_id: {
            name: [entry[key] for entry in found if entry["lesson"] == lesson_id]
            for name, key in (("seeds", "seed"), *((kept, kept) for kept in KEPT))
        }
        for lesson_id in dict.fromkeys(entry["lesson"] for entry in found)
    }


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the table of results.json."""
    return {TABLE: f"{markdown_table(HEADER, rows(results))}\n{what_was_run(results)}.\n".encode()}


def tested_twice(lesson: Lesson, data: Dataset, seed: int, epochs: int) -> dict[str, dict[str, float]]:
    """Train a net on `on_device` data; `correct` and `loss` with the running variance of Flax and of PyTorch."""
    state = init_state(lesson, jax.random.key(seed))
    for _ in range(epochs):
        state, _ = train_epoch(state, data.train, length=data.epoch_length)
    metrics = (evaluate(net, data.test) for net in (state, with_pytorch_variance(state)))
    return {
        kept: {"correct": int(found.correct), "loss": float(found.loss)}
        for kept, found in zip(KEPT, metrics, strict=True)
    }


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row per lesson."""
    cells = []
    for lesson_id, entry in results["lessons"].items():
        size = results["data"]["test"]
        correct = {kept: [run["correct"] for run in entry[kept]] for kept in KEPT}
        losses = {kept: [run["loss"] for run in entry[kept]] for kept in KEPT}
        gap = paired_difference(correct["pytorch"], correct["flax"], grid=1).times(100 / size)
        loss_gap = paired_difference(losses["pytorch"], losses["flax"])
        cells.append(
            [
                lesson_id,
                *(f"{100 * statistics.mean(correct[kept]) / size:.3f} %" for kept in KEPT),
                f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]",
                f"{loss_gap.mean:+.5f} [{loss_gap.low:+.5f}, {loss_gap.high:+.5f}]",
            ]
        )
    return cells


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
