"""Do these lessons reproduce what the PyTorch notebooks printed?

    python experiments/reproduce_notebooks.py --data FOLDER --out DIR

trains every lesson as its notebook does (all 60,000 images, batch 32, 10 epochs) with 30 seeds and compares the
notebook's 10 accuracies and 10 losses, each printed once, with ours. Written to DIR: `results.json` (every seed,
every epoch, every comparison), `README.md`, `reproduce_notebooks.png`.

**Point by point**: the rule that was fixed before the first ten seeds were run, unchanged, on those seeds. If the
notebook's run is one more draw from the distribution of ours, then

    z = (published - mean) / sqrt(s^2 (1 + 1/n) + q^2 / 12)

follows Student's t with n - 1 degrees of freedom (s: standard deviation over our n seeds; q: the step to which the
printed number is rounded, 0.0001 for accuracies, 0.0032 nats for losses). A point is outside if its two-sided p is
below 5 % divided by the number of points (Bonferroni: at most 5 % chance of any false alarm among all of them). A
lesson is reproduced if none of its points is outside. The verdict also says what the rule could have missed.

**Curve by curve**: on all seeds, fixed before seeds 10 to 29 were run. Our curves are rounded as the notebooks' are,
and each curve becomes three contrasts, which use all its 20 numbers:

    A: mean over epochs of log((a + 5e-5) / (1 - a + 5e-5)), a the accuracy
    B: mean over epochs of log(loss)
    G: slope of log(loss) over epochs -1 ... 1

A published curve is rejected if Hotelling's T2 for one more draw,

    T2 = n/(n+1) (f - mean)' C^-1 (f - mean),   (n - 3) / (3 (n - 1)) T2 ~ F(3, n - 3),

has p below 5 % divided by the six lessons (f: the published curve's contrasts; mean, C: of our n curves). To show
that this can reject, each published curve is also tested against the runs of the five other lessons; to show that it
rejects no more often than it should, each of our curves against the others of its lesson. (Our curves against the runs
of other lessons were added when the results were known, to explain the pair that is not rejected.)

Answer: yes, as far as this can tell. None of the 120 published points is outside. As a whole, with 30 seeds: of the 6
published curves none is rejected (smallest p 0.14, batch_norm; limit 0.05/6 = 0.0083). Tested against our runs of
another lesson, 29 of 30 are rejected. Recorded in experiments/results/reproduce_notebooks by

    python experiments/reproduce_notebooks.py --data data/mnist --out experiments/results/reproduce_notebooks
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import dataclasses
from collections.abc import Mapping
from typing import Any

from mnist_jax.cli.arguments import DataArguments, KeepingArguments, SharedJaxArguments, parsed
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.study import finish, run_lessons
from mnist_jax.cli.terminal import make_console, table
from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS
from mnist_jax.runs.files import TABLE
from mnist_jax.runs.loop import EPOCHS
from mnist_jax.studies import published
from mnist_jax.studies.reproduction import SEEDS, compared
from mnist_jax.views.figures import reproduction_figure
from mnist_jax.views.reproduction import (
    HEADER,
    curve_header,
    curve_limits,
    curve_rows,
    curve_verdict,
    point_limits,
    point_verdict,
    reproduction_table,
    seeds_by_point,
    summary,
)
from mnist_jax.views.words import what_was_run

FEWEST_SEEDS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train the lessons as the notebooks do, and compare with what those printed.

    Attributes:
      seeds: number of runs of each lesson: at least 3 to compare point by point, 10 to compare curves, 30 as planned.
    """

    seeds: int = SEEDS
    digits: DataArguments = DataArguments()
    keeping: KeepingArguments = KeepingArguments()
    jax: SharedJaxArguments = SharedJaxArguments()


def run(arguments: Arguments) -> None:
    """Train, compare, and write the results."""
    if arguments.seeds < FEWEST_SEEDS:
        raise UserError(f"A comparison needs at least {FEWEST_SEEDS} seeds, not {arguments.seeds}.")
    start_jax(arguments.jax)
    data = arguments.digits.load("notebooks")
    if not published.comparable(data.describe(), EPOCHS):
        raise UserError(
            f"The notebooks used all of MNIST, and these digits are {data.name} ({data.source}); name it with --data."
        )
    console = make_console()
    folder, results = run_lessons(
        "reproduce_notebooks",
        LESSONS,
        data,
        arguments.keeping,
        console,
        seeds=range(arguments.seeds),
        epochs=EPOCHS,
    )
    results = compared(results)
    wrote = finish(folder, results, report(results))
    points, curves = results["by_point"], results["by_curve"]
    console.print(table(what_was_run(results), HEADER, summary(points["points"])))
    console.print(point_verdict(points), style="bold", soft_wrap=True)
    console.print(point_limits(points), soft_wrap=True)
    if curves:
        console.print(table("Each curve as a whole", curve_header(curves), curve_rows(curves, points["points"])))
    console.print(curve_verdict(curves, arguments.seeds), style="bold", soft_wrap=True)
    if curves:
        console.print(curve_limits(curves), soft_wrap=True)
    console.print(wrote, soft_wrap=True)


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the tables and the figure of results.json."""
    title = f"{what_was_run(results)}; shown: {seeds_by_point(results)}"
    figure = reproduction_figure(results["by_point"]["points"], title)
    return {TABLE: reproduction_table(results), "reproduce_notebooks.png": figure}


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
