"""Is Adam better than SGD, or was it only tuned better?

    python experiments/sgd_vs_adam.py --data FOLDER --out DIR

trains the net of lesson `he` with Adam and with SGD of momentum 0, 0.5 and 0.9, each with the same budget of tuning:
12 learning rates over almost four decades, three seeds, chosen by validation accuracy. The best of Adam, the best of
SGD (which may choose among three momenta, in its favour) and the course's own settings then get ten fresh seeds,
paired: run k of each has the same initial weights and order of examples. Written to DIR: `runs.jsonl` (every run),
`results.json`, `table.md`, `learning_rates.png`, `curves.png`. Interrupted and run again, it goes on where it was.

Answer: see experiments/results/sgd_vs_adam/table.md.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from mnist_jax.display import make_console
from mnist_jax.errors import UserError, exit_on_user_error
from mnist_jax.experiment import EPOCHS
from mnist_jax.figures import curves_figure, learning_rates_figure
from mnist_jax.results import command_line
from mnist_jax.stats import paired_difference
from mnist_jax.study import finish_comparison, run_comparison, what_was_compared
from mnist_jax.tuning import (
    TARGETS,
    Budget,
    Contestant,
    contestant,
    course_optimizers,
    learning_rates,
    median_steps,
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Tune optimizers with the same budget and compare them on fresh seeds.

    Attributes:
      optimizers: which; the verdict compares the second with the first.
      lesson: whose net.
      rates: how many learning rates.
      lowest: learning rate.
      highest: learning rate.
      momenta: sgd is tuned with each, and goes on with the one of the best validation accuracy.
      tuning_seeds: runs of each setting.
      final_seeds: fresh runs of the chosen settings.
      epochs: of each run.
      data: auto, tfds, sample, or a folder with MNIST's files or TFDS data.
      data_dir: TFDS's folder, if not its standard one.
      side_by_side: runs that one device trains at a time; by default 1 on a CPU, up to 128 on a GPU or TPU.
      quick: a minute or two, to see how it works: 5 rates, 1 momentum, 1 and 3 seeds, 3 short epochs. Not the study.
      out: folder for results, new or of this study interrupted; by default runs/sgd_vs_adam-DATE-TIME.
    """

    optimizers: tuple[str, ...] = ("sgd", "adam")
    lesson: str = "he"
    rates: int = 12
    lowest: float = 2.154e-4
    highest: float = 1.0
    momenta: tuple[float, ...] = (0.0, 0.5, 0.9)
    tuning_seeds: int = 3
    final_seeds: int = 10
    epochs: int = EPOCHS
    data: str = "auto"
    data_dir: Path | None = None
    side_by_side: int | None = None
    quick: bool = False
    out: Path | None = None


def run(arguments: Arguments) -> None:
    """Tune, compare, write."""
    if arguments.quick:
        arguments = dataclasses.replace(arguments, rates=5, momenta=(0.9,), tuning_seeds=1, final_seeds=3, epochs=3)
    names = arguments.optimizers
    if len(set(names)) < max(2, len(names)):
        raise UserError(f"Name at least two different optimizers, not {' '.join(names) or 'none'}.")
    rates = learning_rates(arguments.lowest, arguments.highest, arguments.rates)
    course = {name: setting for name, setting in course_optimizers().items() if name in names}
    console = make_console()
    folder, results = run_comparison(
        [contestants(name, rates, arguments.momenta) for name in names],
        {course_label(name): setting for name, setting in course.items()},
        arguments.lesson,
        Budget.of_counts(
            arguments.tuning_seeds,
            arguments.final_seeds,
            epochs=arguments.epochs,
            side_by_side=arguments.side_by_side,
        ),
        source=arguments.data,
        data_dir=arguments.data_dir,
        quick=arguments.quick,
        out=arguments.out,
        name="sgd_vs_adam",
        command=command_line("python experiments/sgd_vs_adam.py"),
        console=console,
    )
    results["paired_difference"] = difference(results["final"], *list(results["final"])[:2])
    if {*names[:2]} <= set(course):
        results["paired_difference_of_references"] = difference(results["references"], *map(course_label, names[:2]))
    title = what_was_compared(results)
    marked = sorted({setting.learning_rate for setting in course.values()})
    figures = {
        "learning_rates.png": learning_rates_figure(results["tuning"], marked, title),
        "curves.png": curves_figure({**results["final"], **results["references"]}, title),
    }
    finish_comparison(folder, results, verdict(results), figures, console)


def contestants(name: str, rates: Sequence[float], momenta: Sequence[float]) -> list[Contestant]:
    """An optimizer with optax's defaults; sgd once with each momentum."""
    if name != "sgd":
        return [contestant(name, rates)]
    return [contestant(name, rates, momentum=momentum) if momentum else contestant(name, rates) for momentum in momenta]


def course_label(name: str) -> str:
    """What the course's own setting is called in tables."""
    return f"{name}, as in the course"


def difference(runs: Mapping[str, Any], first: str, second: str) -> dict[str, Any]:
    """Second minus first: last test accuracy, as a fraction, paired by seed."""
    last = {label: [run[-1] for run in runs[label]["test_accuracy"]] for label in (first, second)}
    return {"second": second, "first": first, **paired_difference(last[second], last[first])._asdict()}


def verdict(results: Mapping[str, Any]) -> list[str]:
    """What the intervals say, in sentences."""
    tuned, untuned = results["paired_difference"], results.get("paired_difference_of_references")
    sentences = []
    if untuned:
        sentences.append(f"As the course sets them, {comparison(untuned)}.")
    rates = {label: found["learning_rate"] for label, found in results["tuning"].items()}
    sentences.append(
        f"Each at its own learning rate ({tuned['second']} {rates[tuned['second']]:g}; {tuned['first']} "
        f"{rates[tuned['first']]:g}), {comparison(tuned)}."
    )
    if untuned and untuned["low"] > 0:
        better = "is better tuned too" if tuned["low"] > 0 else "was only tuned better"
        sentences.append(f"So on this net {tuned['second']} {better}.")
    for target in TARGETS:
        steps = {
            label: median_steps(results["final"][label]["steps_to"][str(target)])
            for label in (tuned["second"], tuned["first"])
        }
        if None not in steps.values():
            words = ", ".join(f"{label} {count:,.0f}" for label, count in steps.items())
            sentences.append(f"Steps to {target:.0%}: {words}.")
    return sentences


def comparison(gap: Mapping[str, Any]) -> str:
    """`adam is better than sgd by +0.75 points [+0.65, +0.86]`, in percentage points of test accuracy."""
    interval = "{:+.2f} points [{:+.2f}, {:+.2f}]".format(*(100 * gap[key] for key in ("mean", "low", "high")))
    if gap["low"] <= 0 <= gap["high"]:
        return f"{gap['second']} does not differ from {gap['first']} ({interval})"
    return f"{gap['second']} is {'better' if gap['mean'] > 0 else 'worse'} than {gap['first']} by {interval}"


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(tyro.cli(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
