r"""Which of optax's optimizers trains this net best, each at its own setting?

    python experiments/optimizers.py --data FOLDER --out DIR

gives optimizers the same budget: optax's defaults and 32 quasi-random settings from each one's own space
(`mnist_jax/studies/spaces.py`), one of which is chosen on validation images alone, as in sgd_vs_adam.py, and then 20
fresh seeds, the same for all. It compares the optimizers that have a space there, or those after `--optimizers`, each
with the settings that stay fixed in its search, as in

    python experiments/optimizers.py --optimizers adamw contrib.muon "sgd momentum=0.9 schedule=cosine" --lesson relu

For an optimizer without a space, learning rate and schedule are searched. Only contrib.muon is left out by default: its
Newton-Schulz iterations make an epoch take some 50 times as long on a CPU.

Written to DIR: `runs.jsonl` (every run), `results.json`, `README.md` and figures. After an interruption, `--resume`
continues. `--quick` shows how it works.

Answer: each at the setting that its search chose, a third of the pairs are shown to differ, and most of Adam's
relatives are among the best; whether another search would find so is open for every pair. He, claim S: with the chosen
settings, of 153 pairs, shown to differ: 51 (by less than 0.1 points: 0); the same within 0.1 points: 3; not shown to
differ: 99. The best is among: adabelief; adagrad; adam; adamw; contrib.ademamix; contrib.prodigy;
contrib.schedule_free_adamw; lion; nadam; nadamw; radam; yogi; no other is shown to be better than one of these (32
trials each, spaces of docs/search_spaces.md, 20 seeds, 10,000 test images, 5 epochs). Differences of 0.10 to 0.30
points, depending on the pair, would have been noticed in 9 of 10 studies. Recorded in experiments/results/optimizers by

    python experiments/optimizers.py --data data/mnist --out experiments/results/optimizers
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import dataclasses

from mnist_jax.cli.arguments import ComparisonArguments, LessonId, OptimizersOption, parsed
from mnist_jax.cli.comparison import run_comparison
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.terminal import make_console
from mnist_jax.studies.spaces import SPACES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(ComparisonArguments):
    """Tune optimizers on one lesson's net with the same budget, and compare them on fresh seeds.

    Attributes:
      lesson: lesson whose net is trained.
    """

    optimizers: OptimizersOption = tuple(name for name in SPACES if name != "contrib.muon")
    lesson: LessonId = "he"


def run(arguments: Arguments) -> None:
    """Search, compare, and write the results."""
    start_jax(arguments.jax)
    run_comparison("optimizers", arguments.optimizers, [arguments.lesson], arguments, make_console())


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
