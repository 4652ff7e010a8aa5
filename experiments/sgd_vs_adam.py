"""Is Adam better than SGD, or was it only tuned better?

    python experiments/sgd_vs_adam.py --data FOLDER --out DIR

trains the net of lesson `he` with Adam and with SGD of momentum 0, 0.5 and 0.9, each with the same budget of tuning:
12 learning rates over almost four decades, three seeds, chosen by validation accuracy. The best of Adam and the best of
SGD (which may choose among three momenta, in its favour) then get ten fresh seeds, paired: run k of each has the same
initial weights and order of examples. The course's own settings are two points of the grid. Written to DIR:
`runs.jsonl` (every run), `results.json`, `README.md`, `learning_rates.png`, `curves.png`. Interrupted, it continues
with `--resume`.

Answer: tuned alike, it is not shown to be better. As the course sets them, adam at 0.01 is better than sgd, momentum
0.5 at 0.01 by +0.68 points [+0.58, +0.78]. Each at its own learning rate (sgd, momentum 0.5: 0.215; adam: 0.001), adam
is not shown to be better or worse than sgd, momentum 0.5 (+0.04 points [-0.02, +0.10]). Recorded in
experiments/results/sgd_vs_adam by

    python experiments/sgd_vs_adam.py --data data/mnist --out experiments/results/sgd_vs_adam
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mnist_jax.cli.arguments import ComparisonArguments, OptimizersOption, parsed
from mnist_jax.cli.comparison import run_comparison
from mnist_jax.cli.optimizer_words import optimizer_of
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.terminal import make_console
from mnist_jax.errors import UserError
from mnist_jax.runs.files import TABLE
from mnist_jax.studies.stats import paired_difference
from mnist_jax.studies.tuning import TARGETS, Contestant, check_different, contestant, course_optimizers, learning_rates
from mnist_jax.views.comparison import comparison_table, what_was_compared
from mnist_jax.views.figures import curves_figure, learning_rates_figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(ComparisonArguments):
    """Tune optimizers with the same budget and compare them on fresh seeds; the verdict is on the first two.

    Attributes:
      momenta: plain sgd is tuned with each, and continues with the one of the best validation accuracy.
    """

    optimizers: OptimizersOption = ("sgd", "adam")
    rates: int = 12
    lowest: float = 2.154e-4
    momenta: tuple[float, ...] = (0.0, 0.5, 0.9)
    tuning_seeds: int = 3
    final_seeds: int = 10


def run(arguments: Arguments) -> None:
    """Tune, compare, write."""
    if arguments.quick:
        arguments = dataclasses.replace(arguments, rates=5, momenta=(0.9,), tuning_seeds=1, final_seeds=3, epochs=3)
    names = arguments.optimizers
    check_different(names)
    rates = learning_rates(arguments.lowest, arguments.highest, arguments.rates)
    start_jax(arguments.jax)
    groups = {name: contestants(name, rates, arguments.momenta) for name in names}
    run_comparison("sgd_vs_adam", groups, arguments, make_console(), derive=differences, verdict=verdict, report=report)


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the table and the figures of results.json."""
    title = what_was_compared(results)
    marked = sorted({setting.learning_rate for setting in course_optimizers().values()})
    return {
        TABLE: comparison_table(results, verdict(results)),
        "learning_rates.png": learning_rates_figure(results, marked, title),
        "curves.png": curves_figure(results, title),
    }


def contestants(said: str, rates: Sequence[float], momenta: Sequence[float]) -> list[Contestant]:
    """An optimizer with optax's defaults for what is not said; plain sgd once with each momentum."""
    if len(set(momenta)) < max(1, len(momenta)):
        raise UserError("Name at least one momentum, each once.")
    name, settings = optimizer_of(said)
    if said != "sgd":
        return [contestant(name, rates, **settings)]
    return [contestant(name, rates, momentum=momentum) if momentum else contestant(name, rates) for momentum in momenta]


def differences(results: Mapping[str, Any]) -> dict[str, Any]:
    """For results.json: second optimizer minus first, each tuned and, where the grid has it, as the course sets it."""
    images = results["data"]["test"]
    names = list(results["final"])[:2]
    first, second = (results["final"][name] for name in names)
    found = {"paired_difference": difference(first, second, images)}
    before, after = (course_runs(results["tuning"], name) for name in names)
    if before and after:
        found["paired_difference_of_the_course"] = difference(before, after, images)
    return found


def course_runs(tuning: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The tuning runs of the course's own setting of an optimizer; None where the grid lacks it or has one seed."""
    setting = course_optimizers().get(name)
    if setting is None:
        return None
    rate = setting.learning_rate
    label = contestant(name, [rate], **dict(setting.hyperparameters)).label
    found = tuning.get(label)
    if found is None or rate not in found["learning_rates"]:
        return None
    counts = found["test_correct"][found["learning_rates"].index(rate)]
    if len(counts) < 2:
        return None
    return {"contestant": f"{label} at {rate:g}", "test_correct": [[count] for count in counts]}


def difference(first: Mapping[str, Any], second: Mapping[str, Any], images: int) -> dict[str, Any]:
    """Second minus first: last test accuracy, as a fraction of the `images`, paired by seed."""
    before, after = ([run[-1] for run in found["test_correct"]] for found in (first, second))
    gap = paired_difference(after, before, grid=1).times(1 / images)
    return {"second": second["contestant"], "first": first["contestant"], **gap._asdict()}


def verdict(results: Mapping[str, Any]) -> list[str]:
    """What the intervals say of the first two optimizers, in sentences."""
    names = list(results["final"])[:2]
    second, chosen = names[1], [results["final"][name] for name in names]
    tuned, untuned = results["paired_difference"], results.get("paired_difference_of_the_course")
    sentences = []
    if untuned:
        sentences.append(f"As the course sets them, {comparison(untuned)}.")
    rates = "; ".join(f"{found['contestant']}: {found['learning_rate']:g}" for found in chosen)
    sentences.append(f"Each at its own learning rate ({rates}), {comparison(tuned)}.")
    if untuned and untuned["low"] > 0 and tuned["low"] > 0:
        sentences.append(f"So on this net {second} is better, and not only better tuned.")
    config = results["config"]
    for target in TARGETS:
        first_steps, second_steps = (found["steps_to"][str(target)] for found in chosen)
        limit = config["epochs"] * config["steps_per_epoch"]
        words = compared_steps(names, first_steps, second_steps, limit, config["test_every"])
        sentences.append(f"Steps to {target} %: {words}.")
    return [*sentences, "Each interval is at 95 % by itself, over seeds, on these test images."]


def compared_steps(
    names: Sequence[str], first: Sequence[int | None], second: Sequence[int | None], limit: int, every: int
) -> str:
    """How many more steps the second optimizer needs than the first, seed by seed, in words.

    Args:
      names: of the two.
      first: for each seed the steps to the target, None if never.
      second: the same of the second.
      limit: steps of a whole run, as which never counts (a restricted mean).
      every: steps between two tests; no smaller difference is claimed.
    """
    reached = [len(steps) - steps.count(None) for steps in (first, second)]
    if 2 * min(reached) < len(first):
        return " and ".join(
            f"reached by {n} of {len(first)} runs of {name}" for n, name in zip(reached, names, strict=True)
        )
    before, after = ([limit if step is None else step for step in steps] for steps in (first, second))
    gap = paired_difference(after, before, grid=every)
    interval = f"{gap.mean:+,.0f} [{gap.low:+,.0f}, {gap.high:+,.0f}]"
    if gap.excludes_zero and abs(gap.mean) >= every:
        return f"{names[1]} needs {'more' if gap.mean > 0 else 'fewer'} than {names[0]} ({interval})"
    return f"{names[1]} is not shown to need more or fewer than {names[0]} ({interval})"


def comparison(gap: Mapping[str, Any]) -> str:
    """`adam is better than sgd by +0.75 points [+0.65, +0.86]`, in percentage points of test accuracy."""
    interval = "{:+.2f} points [{:+.2f}, {:+.2f}]".format(*(100 * gap[key] for key in ("mean", "low", "high")))
    if gap["low"] <= 0 <= gap["high"]:
        return f"{gap['second']} is not shown to be better or worse than {gap['first']} ({interval})"
    return f"{gap['second']} is {'better' if gap['mean'] > 0 else 'worse'} than {gap['first']} by {interval}"


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
