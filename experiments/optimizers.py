r"""Which of optax's optimizers trains this net best, each at its own learning rate?

    python experiments/optimizers.py --data FOLDER --out DIR

gives optimizers the same budget of tuning (optax's defaults, every learning rate of the grid, chosen by validation
accuracy), and each one's best rate five fresh seeds, paired: seven of them, sgd twice, without momentum and with 0.9,
or those after `--optimizers`, as in

    python experiments/optimizers.py --optimizers adamw contrib.muon "sgd momentum=0.9 schedule=cosine"

Written to DIR: `runs.jsonl` (every run), `results.json`, `README.md`, `optimizers.png`. Interrupted, it
continues with `--resume`.

Answer of a small study: most are not told apart. Shown to be better: adamw than rmsprop by 0.59 points [0.20, 0.99].
The best is among: sgd; adam; adamw; adagrad; lion; nadam; sgd, momentum 0.9. Recorded in experiments/results/optimizers
by

    python experiments/optimizers.py --data data/mnist --epochs 2 --rates 9 --final-seeds 3 \
      --out experiments/results/optimizers
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
from mnist_jax.runs.files import TABLE
from mnist_jax.studies.stats import Interval, all_pairs
from mnist_jax.studies.tuning import Contestant, check_different, contestant, learning_rates
from mnist_jax.views.comparison import comparison_table, what_was_compared
from mnist_jax.views.figures import optimizers_figure
from mnist_jax.views.words import count_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(ComparisonArguments):
    """Tune all optimizers on one lesson's net and compare them."""

    optimizers: OptimizersOption = (
        *("sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "nadam"),
        "sgd momentum=0.9",
    )
    rates: int = 11
    lowest: float = 1e-5
    tuning_seeds: int = 1
    final_seeds: int = 5


def contestants(optimizers: Sequence[str], rates: Sequence[float]) -> list[Contestant]:
    """The optimizers of `--optimizers`, with optax's defaults for what is not said."""
    said = map(optimizer_of, optimizers)
    return [contestant(name, rates, **settings) for name, settings in said]


def run(arguments: Arguments) -> None:
    """Tune, compare, write."""
    if arguments.quick:
        arguments = dataclasses.replace(arguments, rates=4, lowest=1e-3, tuning_seeds=1, final_seeds=2, epochs=1)
    rates = learning_rates(arguments.lowest, arguments.highest, arguments.rates)
    start_jax(arguments.jax)
    entrants = contestants(arguments.optimizers, rates)
    check_different([entrant.label for entrant in entrants])
    groups = {entrant.label: [entrant] for entrant in entrants}
    run_comparison("optimizers", groups, arguments, make_console(), verdict=verdict, report=report)


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the table and the figure of results.json."""
    return {
        TABLE: comparison_table(results, verdict(results)),
        "optimizers.png": optimizers_figure(results, what_was_compared(results)),
    }


def verdict(results: Mapping[str, Any]) -> list[str]:
    """Which optimizers are shown to be better than which, all pairs together."""
    correct = {label: [run[-1] for run in found["test_correct"]] for label, found in results["final"].items()}
    points = {pair: gap.times(100 / results["data"]["test"]) for pair, gap in all_pairs(correct).items()}
    # Each pair with the higher mean first.
    ordered = [(a, b, gap) if gap.mean >= 0 else (b, a, gap.times(-1)) for (a, b), gap in points.items()]
    largest = max(ordered, key=lambda pair: pair[2].mean)
    shown = [pair for pair in ordered if pair[2].excludes_zero]
    if shown:
        beaten = {worse for _, worse, _ in shown}
        best = "; ".join(label for label in correct if label not in beaten)
        sentences = [
            f"Shown to be better: {'; '.join(map(_words, shown))}.",
            f"The best is among: {best}. No other is shown to be better than one of these.",
        ]
    else:
        sentences = [f"None is shown to be better than another; the largest difference is {_words(largest)}."]
    seeds = count_of(len(results["config"]["final_seeds"]), "seed")
    how = f"{seeds}, paired, on these test images; simultaneous 95 % intervals (Bonferroni)."
    return [*sentences, f"All {count_of(len(ordered), 'pair')} compared; {how}"]


def _words(pair: tuple[str, str, Interval]) -> str:
    better, worse, gap = pair
    return f"{better} than {worse} by {gap.mean:.2f} points [{gap.low:.2f}, {gap.high:.2f}]"


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
