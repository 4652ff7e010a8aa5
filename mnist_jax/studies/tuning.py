"""Comparing optimizers fairly: the same grid for each, chosen on validation images, tested with fresh seeds.

Everything but the optimizer is the same for all contestants (net, data, epochs, seeds and so initial weights and
order of examples), and so is the budget: how many settings are tried, with how many seeds. Test images play no part
in the choice.
"""

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS, Lesson, for_run, optimizer_to_json
from mnist_jax.optimizers import Optimizer, optimizer
from mnist_jax.runs.devices import Placement, Trainer, on_device
from mnist_jax.runs.loop import check_runs
from mnist_jax.runs.records import MOST_SEEDS, Run, RunRecord

MOST_RATES = 1_000  # of a grid; more is a slip of the finger

# Right answers are integers, and so is what they are compared with: 0.98 of 10,000 is no float.
GOOD_WITHIN = 5  # validation images per 1,000 that a good learning rate may lie below the best one
TARGETS = (95, 97, 98)  # test accuracies to reach, in percent
AT_CHANCE = 20  # percent right: twice what guessing gives; a run that ends with no more learned nothing, or lost it


@dataclasses.dataclass(frozen=True)
class Contestant:
    """An optimizer and the learning rates that its tuning tries.

    Attributes:
      label: its name in tables.
      optimizer: its name, and what stays.
      learning_rates: which are tried, ascending.
    """

    label: str
    optimizer: Optimizer
    learning_rates: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """For results.json."""
        return {**dataclasses.asdict(self), "optimizer": optimizer_to_json(self.optimizer)}


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every contestant gets alike.

    Attributes:
      tuning_seeds: each setting is tried with each.
      final_seeds: fresh ones, for the chosen setting.
      test_every: final runs are tested after every so many steps.
    """

    tuning_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    test_every: int = 250

    @classmethod
    def of_counts(cls, tuning: int, final: int) -> "Budget":
        """Seeds 0, 1, ... for tuning and the next ones for the final runs.

        Raises:
          UserError: no tuning, fewer than the 2 final runs that an interval needs, or more than anyone wants.
        """
        if not (1 <= tuning <= MOST_SEEDS and 2 <= final <= MOST_SEEDS):
            raise UserError(
                f"Tuning takes 1 to {MOST_SEEDS:,} seeds and the final runs 2 to {MOST_SEEDS:,}, not {tuning:,} and "
                f"{final:,}."
            )
        return cls(tuning_seeds=tuple(range(tuning)), final_seeds=tuple(range(tuning, tuning + final)))

    def runs(self, groups: Mapping[str, Sequence[Contestant]]) -> int:
        """Number of runs of a whole comparison."""
        settings = sum(len(entrant.learning_rates) for entrant in itertools.chain(*groups.values()))
        return len(self.tuning_seeds) * settings + len(self.final_seeds) * len(groups)


def learning_rates(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` rates from `low` to `high`, each the same factor above the one before, to three digits.

    Raises:
      UserError: not ascending from above 0, fewer than 2, or more than `MOST_RATES`.
    """
    if not 0 < low < high < math.inf or not 2 <= count <= MOST_RATES:
        raise UserError(
            f"A grid takes 2 to {MOST_RATES:,} learning rates from above 0 upwards, not {count:,} from {low} to {high}."
        )
    rates = tuple(float(f"{rate:.3g}") for rate in np.geomspace(low, high, count))
    if len(set(rates)) < count:
        raise UserError(f"{count} learning rates from {low} to {high} are closer than three digits tell apart.")
    return rates


def contestant(name: str, rates: Sequence[float], /, **hyperparameters: Any) -> Contestant:
    """An optimizer with optax's defaults, except for `hyperparameters`, which may be `schedule` and `chain` too.

    Raises:
      UserError: an unknown name, or values that it does not take.
    """
    tried = [optimizer(name, rate, **hyperparameters) for rate in rates]
    return Contestant(tried[0].label, tried[0], tuple(rates))


def course_optimizers() -> dict[str, Optimizer]:
    """Name -> the course's setting of it: sgd 0.01 with momentum 0.5, adam 0.01."""
    return {lesson.optimizer.name: lesson.optimizer for lesson in LESSONS.values()}


class Train(Protocol):
    """What trains runs."""

    def __call__(
        self, part: Mapping[str, str], lesson: Lesson, runs: Sequence[Run], test_every: int | None = None
    ) -> list[RunRecord]:
        """The runs' records, in their order; `part` tells them from other runs of the same study."""


class Measure(Protocol):
    """What calls a function."""

    def __call__(
        self, parts: Sequence[Mapping[str, Any]], function: Callable[..., Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Each part with what the function returned for it, given the part as arguments."""


def compare(
    groups: Mapping[str, Sequence[Contestant]],
    lesson: Lesson,
    data: Dataset,
    budget: Budget,
    train: Train,
    measure: Measure,
) -> dict[str, Any]:
    """Tune all contestants, then train the best of each group with fresh seeds.

    Args:
      groups: name -> contestants whose labels differ; a group is one optimizer with other values of what is tuned
        beside the learning rate, as sgd with three momenta.
      lesson: the net; its own optimizer is not used.
      data: with a validation split.
      budget: the same for all.
      train: trains runs, unless their records are known.
      measure: calls a function, unless its result is known.

    Returns:
      For results.json: `tuning`, an entry per contestant, and `final`, an entry per group.
    """
    assert data.validation is not None  # `check_comparison`

    def trained(
        stage: str, entrant: Contestant, rates: Sequence[float], seeds: Sequence[int], test_every: int | None = None
    ) -> list[RunRecord]:
        runs = [Run(seed, (("learning_rate", rate),)) for rate in rates for seed in seeds]
        changed = dataclasses.replace(lesson, optimizer=entrant.optimizer)
        return train({"stage": stage, "optimizer": entrant.label}, changed, runs, test_every)

    tuning: dict[str, Any] = {}
    for entrant in itertools.chain(*groups.values()):
        records = trained("tuning", entrant, entrant.learning_rates, budget.tuning_seeds)
        tuning[entrant.label] = tuning_summary(records, entrant, data.validation.size)
    best = {name: best_of(group, tuning) for name, group in groups.items()}
    rates = {name: tuning[entrant.label]["learning_rate"] for name, entrant in best.items()}
    finals = {
        name: trained("final", entrant, [rates[name]], budget.final_seeds, budget.test_every)
        for name, entrant in best.items()
    }
    lessons = {entrant.label: dataclasses.replace(lesson, optimizer=entrant.optimizer) for entrant in best.values()}
    (timed,) = measure([{"stage": "timing"}], lambda stage: {"seconds": seconds_alone(lessons, data)})
    final = {}
    for name, entrant in best.items():
        summary = final_summary(finals[name], data.test.size, data.steps(lesson), budget.test_every)
        final[name] = {
            "contestant": entrant.label,
            "learning_rate": rates[name],
            **summary,
            "seconds_per_epoch": statistics.median(timed["seconds"][entrant.label]),
        }
    return {"tuning": tuning, "final": final}


def best_of(group: Sequence[Contestant], tuning: Mapping[str, Any]) -> Contestant:
    """The contestant whose chosen setting has the most validation images right; of equals the first."""
    return max(group, key=lambda entrant: chosen(tuning[entrant.label])[0])


def check_different(optimizers: Sequence[str]) -> None:
    """Raise `UserError` unless they are two or more, and no two the same."""
    if len(set(optimizers)) < max(2, len(optimizers)):
        raise UserError(f"Name at least two different optimizers, not {'; '.join(optimizers) or 'none'}.")


def check_comparison(
    groups: Mapping[str, Sequence[Contestant]],
    lesson: Lesson,
    data: Dataset,
    budget: Budget,
    *,
    epochs: int,
    placement: Placement = Placement(),
) -> None:
    """Raise `UserError` for what `compare` cannot do, before anything slow."""
    entrants = list(itertools.chain(*groups.values()))
    check_different([entrant.label for entrant in entrants])
    runs = [Run(seed) for seed in (*budget.tuning_seeds, *budget.final_seeds)]
    for entrant in entrants:
        trained = dataclasses.replace(lesson, optimizer=entrant.optimizer)
        check_runs(trained, data, runs, epochs=epochs, placement=placement)
    if data.validation is None:
        raise UserError("Settings are chosen on validation images, which split notebooks has none of; use slides.")


# --- summaries of records ---


def tuning_summary(records: Sequence[RunRecord], contestant: Contestant, images: int) -> dict[str, Any]:
    """What tuning found, by validation images right after the last epoch (of a diverged run: the one it ended with).

    Args:
      records: of every learning rate, in their order, one per seed.
      contestant: whose they are.
      images: number of validation images.

    Returns:
      `learning_rates`; `validation_correct`, for each rate a list of one count per seed; of the same shape `diverged`,
      and `test_correct`, which has no part in the choice;
      `learning_rate`, the one with the highest sum; `at_edge`, whether it is the grid's first or last;
      `good_learning_rates`, the lowest and highest of the good ones around it.
    """
    rates = contestant.learning_rates
    seeds = len(records) // len(rates)
    rows = [records[first : first + seeds] for first in range(0, len(records), seeds)]
    correct = [[cast(list[int], record.validation_correct)[-1] for record in row] for row in rows]
    totals = [sum(row) for row in correct]
    best = totals.index(max(totals))
    return {
        "learning_rates": list(rates),
        "validation_correct": correct,
        "test_correct": [[record.test_correct[-1] for record in row] for row in rows],
        "diverged": [[record.diverged for record in row] for row in rows],
        "learning_rate": rates[best],
        "at_edge": best in (0, len(rates) - 1),
        "good_learning_rates": [rates[place] for place in good_range(totals, images * seeds)],
    }


def chosen(found: Mapping[str, Any]) -> tuple[int, int]:
    """Validation images right at the chosen learning rate, over all seeds; and how many seeds."""
    counts = found["validation_correct"][found["learning_rates"].index(found["learning_rate"])]
    return sum(counts), len(counts)


def good_range(correct: Sequence[int], images: int) -> tuple[int, int]:
    """First and last place of the unbroken stretch around the largest count that is within `GOOD_WITHIN` of it.

    Args:
      correct: for each learning rate the validation images right.
      images: number of images.
    """
    best = int(np.argmax(correct))
    good = 1000 * (correct[best] - np.asarray(correct)) <= GOOD_WITHIN * images
    first = best - int(np.argmin([*good[best::-1], False])) + 1
    last = best + int(np.argmin([*good[best:], False])) - 1
    return first, last


def final_summary(records: Sequence[RunRecord], images: int, steps_per_epoch: int, test_every: int) -> dict[str, Any]:
    """The fresh runs of a contestant.

    Returns:
      `seeds`; for each seed the curves `test_correct`, `test_loss`, `train_loss`, `validation_correct`, `tests` (test
      images right along the way) and whether it `diverged`; `steps_to`: target in percent -> for each seed the steps
      to reach it on the `images` test images, None if never.
    """
    # An epoch of fewer than `test_every` steps is tested at its end only.
    tests = [record.tests or [[] for _ in record.test_correct] for record in records]
    curves = ("test_correct", "test_loss", "train_loss", "validation_correct")
    return {
        "seeds": [record.seed for record in records],
        **{name: [getattr(record, name) for record in records] for name in curves},
        "tests": tests,
        "diverged": [record.diverged for record in records],
        "steps_to": {
            str(target): [
                steps_to(needed, within, record.test_correct, test_every, steps_per_epoch)
                for within, record in zip(tests, records, strict=True)
            ]
            for target, needed in ((target, -(-target * images // 100)) for target in TARGETS)  # rounded up
        },
    }


def steps_to(
    target: int, tests: Sequence[Sequence[int]], ends: Sequence[int], every: int, steps_per_epoch: int
) -> int | None:
    """Steps after which a test first found `target` or more images right, or None.

    Args:
      target: number of images.
      tests: for each epoch the images right after `every`, 2 `every`, ... of its steps.
      ends: for each epoch those after its last step.
      every: steps between two tests.
      steps_per_epoch: a last partial batch is a step.
    """
    for number, (within, end) in enumerate(zip(tests, ends, strict=True)):
        for step, correct in [*zip(itertools.count(every, every), within, strict=False), (steps_per_epoch, end)]:
            if correct >= target:
                return number * steps_per_epoch + step
    return None


def seconds_alone(lessons: Mapping[str, Lesson], data: Dataset, repeats: int = 3) -> dict[str, list[float]]:
    """Label -> seconds per epoch of one run by itself, compiled as its runs were, `repeats` of them taken in turn."""
    run, placed = Run(0), on_device(data)
    trainers = {
        label: Trainer(for_run(lesson, steps_per_epoch=data.steps(lesson), epochs=repeats + 1), placed, [run])
        for label, lesson in lessons.items()
    }
    states = {label: trainer.start([run]) for label, trainer in trainers.items()}
    seconds: dict[str, list[float]] = {label: [] for label in lessons}
    for repeat in range(repeats + 1):  # the first compiles, and does not count
        for label, trainer in trainers.items():
            began = time.perf_counter()
            states[label], loss, _ = trainer.epoch(states[label])
            loss.block_until_ready()
            if repeat:
                seconds[label].append(time.perf_counter() - began)
    return seconds


def at_chance(correct: Sequence[int], diverged: Sequence[bool], images: int) -> int:
    """How many runs ended finite, but with at most `AT_CHANCE` percent of the images right."""
    return sum(100 * count <= AT_CHANCE * images for count, lost in zip(correct, diverged, strict=True) if not lost)


def median_steps(steps: Sequence[int | None]) -> float:
    """Median over runs; infinite where half of them or more never got there."""
    return statistics.median(math.inf if step is None else step for step in steps)
