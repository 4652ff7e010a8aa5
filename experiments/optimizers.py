"""Which of optax's optimizers trains this net best, each at its own learning rate?

    python experiments/optimizers.py --data FOLDER --out DIR

gives every optimizer that the project knows the same budget of tuning (optax's defaults, every learning rate of the
grid, chosen by validation accuracy), and its best rate five fresh seeds, paired. sgd stands twice, without momentum
and with 0.9. Written to DIR: `runs.jsonl` (every run), `results.json`, `table.md`, `optimizers.png`. Interrupted, it
goes on with `--resume`.

Answer: see experiments/results/optimizers/table.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tyro

from mnist_jax.display import make_console
from mnist_jax.errors import exit_on_user_error
from mnist_jax.figures import optimizers_figure
from mnist_jax.optimizers import OPTIMIZERS
from mnist_jax.startup import parsed, start_jax
from mnist_jax.stats import paired_difference
from mnist_jax.study import ComparisonArguments, finish_comparison, run_comparison, what_was_compared
from mnist_jax.tuning import Contestant, contestant, learning_rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(ComparisonArguments):
    """Tune all optimizers on one lesson's net and compare them.

    Attributes:
      quick: a minute or two, to see how it works: 4 rates, 1 and 2 seeds, 1 short epoch. Not the study.
    """

    rates: int = 11
    lowest: float = 1e-5
    tuning_seeds: int = 1
    final_seeds: int = 5


def contestants(rates: tuple[float, ...]) -> list[Contestant]:
    """Every optimizer with optax's defaults, and sgd with momentum 0.9."""
    plain = [contestant(name, rates) for name in OPTIMIZERS]
    return [*plain, contestant("sgd", rates, momentum=0.9)]


def run(arguments: Arguments) -> None:
    """Tune, compare, write."""
    if arguments.quick:
        arguments = dataclasses.replace(arguments, rates=4, lowest=1e-3, tuning_seeds=1, final_seeds=2, epochs=1)
    rates = learning_rates(arguments.lowest, arguments.highest, arguments.rates)
    start_jax(arguments)
    console = make_console()
    folder, results = run_comparison(
        {entrant.label: [entrant] for entrant in contestants(rates)},
        arguments,
        "optimizers",
        console,
    )
    figure = optimizers_figure(results["tuning"], results["final"], what_was_compared(results))
    finish_comparison(folder, results, verdict(results["final"]), {"optimizers.png": figure}, console)


def verdict(final: Mapping[str, Any]) -> list[str]:
    """The best, and by how much the others lie behind it."""
    last = {label: [run[-1] for run in found["test_accuracy"]] for label, found in final.items()}
    best = max(last, key=lambda label: sum(last[label]))
    others = [label for label in last if label != best]
    # Bonferroni: the intervals hold all together with 95 %.
    gaps = {label: paired_difference(last[best], last[label], 1 - 0.05 / len(others)) for label in others}
    words = {
        label: f"{label} by {100 * gap.mean:.2f} points [{100 * gap.low:.2f}, {100 * gap.high:.2f}]"
        for label, gap in gaps.items()
    }
    behind = [words[label] for label, gap in gaps.items() if gap.low > 0]
    open_cases = [words[label] for label, gap in gaps.items() if gap.low <= 0]
    sentences = [f"Highest mean test accuracy: {best}."]
    if behind:
        sentences.append(f"Shown to be better than {'; '.join(behind)}.")
    if open_cases:
        sentences.append(f"Not shown to be better than {'; '.join(open_cases)}.")
    return [*sentences, "Paired by seed; the intervals hold all together with 95 %."]


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(lambda: tyro.cli(Arguments, description=__doc__)))


if __name__ == "__main__":
    main()
