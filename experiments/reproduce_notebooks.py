"""Do these lessons reproduce what the PyTorch notebooks printed?

    python experiments/reproduce_notebooks.py --data FOLDER --out DIR

trains every lesson as its notebook does (all 60,000 images, batch 32, 10 epochs) with ten seeds and compares the
notebook's 10 accuracies and 10 losses, each printed once, with ours. Written to DIR: `results.json` (every seed,
every epoch, every comparison), `table.md`, `reproduce_notebooks.png`.

The rule, fixed before the runs. If the notebook's run is one more draw from the distribution of ours, then

    z = (published - mean) / sqrt(s^2 (1 + 1/n) + q^2 / 12)

follows Student's t with n - 1 degrees of freedom (s: standard deviation over our n seeds; q: the step of the grid
on which the printed number stands, 0.0001 for accuracies, 0.0032 nats for losses). A point is outside if its
two-sided p is below 5 % divided by the number of points (Bonferroni: at most 5 % chance of any false alarm among
all of them). A lesson is reproduced if none of its points is outside.

Answer: see experiments/results/reproduce_notebooks/table.md.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import stats

from mnist_jax import published
from mnist_jax.display import load_data, make_console, markdown_table, table
from mnist_jax.errors import UserError, exit_on_user_error
from mnist_jax.experiment import EPOCHS
from mnist_jax.figures import reproduction_figure
from mnist_jax.lessons import LESSONS
from mnist_jax.results import RESULTS, command_line, what_was_run, write_file, write_results
from mnist_jax.startup import parsed, start_jax
from mnist_jax.stats import fractions
from mnist_jax.study import RunArguments, run_lessons

LEVEL = 0.05
NOTE = "Ours: mean ± standard deviation; losses: mean cross-entropy in nats."
HEADER = ["lesson", "what", "notebook, epoch 10", "ours, epoch 10", "z", "largest z of 10 epochs", "outside"]
POINT_HEADER = ["lesson", "what", "epoch", "notebook", "mean", "standard deviation", "lowest", "highest", "z"]


@dataclasses.dataclass(frozen=True)
class Arguments(RunArguments):
    """Train the lessons as the notebooks do and compare with what these printed.

    Attributes:
      seeds: runs of each lesson; the rule needs at least 3.
      data: auto, tfds, or a folder with all of MNIST.
      data_dir: TFDS's folder, if not its standard one.
      out: folder for results, new or without a run; by default runs/reproduce_notebooks-DATE-TIME.
    """

    seeds: int = 10
    data: str = "auto"
    data_dir: Path | None = None
    out: Path | None = None


def run(arguments: Arguments) -> None:
    """Train, compare, write."""
    if arguments.seeds < 3:
        raise UserError(f"A comparison needs at least 3 seeds, not {arguments.seeds}.")
    start_jax(arguments)
    data = load_data(arguments.data, "notebooks", arguments.data_dir)
    if not published.comparable(data.describe(), EPOCHS):
        raise UserError(f"The notebooks used all of MNIST, not {data.name} ({data.source}); name it with --data.")
    console = make_console()
    folder, results = run_lessons(
        LESSONS,
        data,
        seeds=range(arguments.seeds),
        epochs=EPOCHS,
        arguments=arguments,
        out=arguments.out,
        study="reproduce_notebooks",
        command=command_line("python experiments/reproduce_notebooks.py"),
        console=console,
    )
    results["comparison"] = compare(results["lessons"], data.test.size)
    write_results(folder, results)
    write_report(folder, results)
    console.print(table(what_was_run(results), HEADER, summary(results["comparison"])))
    console.print(verdict(results["comparison"]), style="bold", soft_wrap=True)
    console.print(f"wrote {folder / RESULTS}, table.md and reproduce_notebooks.png there", soft_wrap=True)


def compare(lessons: Mapping[str, Mapping[str, Any]], images: int) -> list[dict[str, Any]]:
    """The rule above for every lesson, quantity and epoch; accuracies are fractions, losses nats."""
    points: list[dict[str, Any]] = []
    for lesson_id, entry in lessons.items():
        quantities = {
            "accuracy": (
                published.accuracies(lesson_id),
                fractions(entry["test_correct"], images),
                published.ACCURACY_STEP,
            ),
            "loss": (published.losses(lesson_id), entry["test_loss"], published.LOSS_STEP),
        }
        for what, (printed, runs, step) in quantities.items():
            for epoch, value in enumerate(printed, start=1):
                ours = np.array([run[epoch - 1] for run in runs], float)
                z = z_score(value, ours, step)
                points.append(
                    {
                        "lesson": lesson_id,
                        "what": what,
                        "epoch": epoch,
                        "published": value,
                        "mean": float(ours.mean()),
                        "standard_deviation": float(ours.std(ddof=1)),
                        "lowest": float(ours.min()),
                        "highest": float(ours.max()),
                        "z": z,
                        "p": float(2 * stats.t.sf(abs(z), len(ours) - 1)),
                    }
                )
    for point in points:
        point["outside"] = point["p"] < LEVEL / len(points)
    return points


def z_score(value: float, ours: Sequence[float] | np.ndarray, step: float) -> float:
    """Distance of one more draw, rounded to `step`, from the mean of `ours` in its standard deviations."""
    variance = np.var(ours, ddof=1) * (1 + 1 / len(ours)) + step**2 / 12
    return float((value - np.mean(ours)) / math.sqrt(variance))


def verdict(points: Sequence[Mapping[str, Any]]) -> str:
    """What the rule says, in words, with what it could have missed."""
    outside = [point for point in points if point["outside"]]
    nominal = sum(point["p"] < LEVEL for point in points)
    rest = (
        f" One by one, {nominal} of {len(points)} have p below {LEVEL:g}; about {LEVEL * len(points):.0f} would by "
        "chance, in runs of neighbouring epochs, which vary together."
    )
    if not outside:
        return f"Reproduced: none of the {len(points)} published points is outside.{rest}"
    names = ", ".join(f"{point['lesson']} {point['what']} epoch {point['epoch']}" for point in outside)
    lessons = {point["lesson"] for point in points} - {point["lesson"] for point in outside}
    return (
        f"{len(outside)} of the {len(points)} published points are outside: {names}. "
        f"Reproduced: {', '.join(sorted(lessons)) or 'no lesson'}.{rest}"
    )


def summary(points: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row a lesson and quantity."""
    rows = []
    for lesson_id, what in dict.fromkeys((point["lesson"], point["what"]) for point in points):
        ten = [point for point in points if (point["lesson"], point["what"]) == (lesson_id, what)]
        last = ten[-1]
        rows.append(
            [
                lesson_id,
                what,
                _number(last, "published"),
                f"{_number(last, 'mean')} ± {_number(last, 'standard_deviation')}",
                f"{last['z']:+.1f}",
                f"{max(abs(point['z']) for point in ten):.1f}",
                str(sum(point["outside"] for point in ten)),
            ]
        )
    return rows


def _number(point: Mapping[str, Any], field: str) -> str:
    return f"{100 * point[field]:.2f} %" if point["what"] == "accuracy" else f"{point[field]:.4f}"


def write_report(folder: Path, results: Mapping[str, Any]) -> None:
    """Write the tables and the figure of results.json."""
    points = results["comparison"]
    all_points = [
        [
            point["lesson"],
            point["what"],
            str(point["epoch"]),
            *(_number(point, field) for field in ("published", "mean", "standard_deviation", "lowest", "highest")),
            f"{point['z']:+.2f}" + (" outside" if point["outside"] else ""),
        ]
        for point in points
    ]
    text = (
        f"{markdown_table(HEADER, summary(points))}\n{what_was_run(results)}. {NOTE}\n\n**{verdict(points)}**\n\n"
        f"Every point:\n\n{markdown_table(POINT_HEADER, all_points)}"
    )
    write_file(folder / "table.md", text.encode())
    write_file(folder / "reproduce_notebooks.png", reproduction_figure(points, what_was_run(results)))


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(lambda: tyro.cli(Arguments, description=__doc__)))


if __name__ == "__main__":
    main()
