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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from mnist_jax.cli.terminal import EpochProgress
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS, Lesson
from mnist_jax.optimizers import Optimizer, optimizer
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.devices import Trainer, on_device
from mnist_jax.runs.journal import Journal
from mnist_jax.runs.loop import check_run, train_runs
from mnist_jax.runs.records import MOST_SEEDS, Run, ended_runs, run_record
from mnist_jax.views.tensorboard import EventFiles, epoch_points

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
      optimizer: its name, and the hyperparameters that stay.
      learning_rates: which are tried, ascending.
    """

    label: str
    optimizer: Optimizer
    learning_rates: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every contestant gets alike.

    Attributes:
      tuning_seeds: each setting is tried with each.
      final_seeds: fresh ones, for the chosen setting.
      epochs: of each run.
      test_every: final runs are tested after every so many steps.
      side_by_side: runs on one device at a time; None chooses by backend.
    """

    tuning_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    epochs: int
    test_every: int = 250
    side_by_side: int | None = None

    @classmethod
    def of_counts(cls, tuning: int, final: int, **rest: Any) -> "Budget":
        """Seeds 0, 1, ... for tuning and the next ones for the final runs.

        Raises:
          UserError: no tuning, fewer than the 2 final runs that an interval needs, or more than anyone wants.
        """
        if not (1 <= tuning <= MOST_SEEDS and 2 <= final <= MOST_SEEDS):
            raise UserError(
                f"Tuning takes 1 to {MOST_SEEDS:,} seeds and the final runs 2 to {MOST_SEEDS:,}, not {tuning:,} and "
                f"{final:,}."
            )
        return cls(tuning_seeds=tuple(range(tuning)), final_seeds=tuple(range(tuning, tuning + final)), **rest)


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


def contestant(name: str, rates: Sequence[float], /, **hyperparameters: float) -> Contestant:
    """An optimizer with optax's defaults, except for `hyperparameters`.

    Raises:
      UserError: an unknown name, or numbers outside their range.
    """
    tried = [optimizer(name, rate, **hyperparameters) for rate in rates]
    label = ", ".join([name, *(f"{key} {value:g}" for key, value in hyperparameters.items())])
    return Contestant(label, tried[0], tuple(rates))


def course_optimizers() -> dict[str, Optimizer]:
    """Name -> the course's setting of it: sgd 0.01 with momentum 0.5, adam 0.01."""
    return {lesson.optimizer.name: lesson.optimizer for lesson in LESSONS.values()}


def compare(
    groups: Mapping[str, Sequence[Contestant]],
    lesson: Lesson,
    data: Dataset,
    budget: Budget,
    *,
    journal: Journal,
    checkpoints: Checkpoints,
    event_files: EventFiles,
    console: Console,
) -> dict[str, Any]:
    """Tune all contestants, then train the best of each group with fresh seeds; what the journal holds is not repeated.

    Args:
      groups: name -> contestants whose labels differ; a group is one optimizer with other values of what is tuned
        beside the learning rate, as sgd with three momenta.
      lesson: the net; its own optimizer is not used.
      data: with a validation split.
      budget: the same for all.
      journal: where each finished run is kept.
      checkpoints: where runs under way are.
      event_files: where TensorBoard finds all runs' curves.
      console: where progress is shown.

    Returns:
      For results.json: `tuning`, an entry a contestant, and `final`, an entry a group.
    """
    contestants = list(itertools.chain(*groups.values()))
    finals = len(budget.final_seeds) * len(groups)
    tries = len(budget.tuning_seeds) * sum(len(entrant.learning_rates) for entrant in contestants)
    runs = finals + tries - sum(entry["stage"] != "timing" for entry in journal)
    tuning: dict[str, Any] = {}
    assert data.validation is not None  # `check_comparison`
    images = data.validation.size
    with EpochProgress(console, data, runs=runs, epochs=budget.epochs) as progress:

        def train(stage: str, label: str, optimizer: Optimizer, rates: Sequence[float]) -> None:
            changed = dataclasses.replace(lesson, optimizer=optimizer)
            _train(stage, label, rates, changed, data, budget, journal, checkpoints, event_files, progress)

        for entrant in contestants:
            train("tuning", entrant.label, entrant.optimizer, entrant.learning_rates)
            tuning[entrant.label] = tuning_summary(journal, entrant, budget.tuning_seeds, images)
        best = {name: best_of(group, tuning) for name, group in groups.items()}
        for entrant in best.values():
            train("final", entrant.label, entrant.optimizer, [tuning[entrant.label]["learning_rate"]])
    lessons = {entrant.label: dataclasses.replace(lesson, optimizer=entrant.optimizer) for entrant in best.values()}
    seconds = _seconds_alone(lessons, data, journal)
    checkpoints.finish_groups()
    steps = math.ceil(data.epoch_length / lesson.batch_size)

    return {
        "tuning": tuning,
        "final": {
            name: final_summary(journal, entrant.label, budget, data.test.size, steps, seconds[entrant.label])
            for name, entrant in best.items()
        },
    }


def best_of(group: Sequence[Contestant], tuning: Mapping[str, Any]) -> Contestant:
    """The contestant whose chosen setting has the most validation images right; of equals the first."""
    return max(group, key=lambda entrant: _chosen(tuning[entrant.label])[0])


def check_comparison(lesson: Lesson, data: Dataset, budget: Budget) -> None:
    """Raise `UserError` for what `compare` cannot do, before anything slow."""
    seeds = [*budget.tuning_seeds, *budget.final_seeds]
    check_run(lesson, data, seeds=seeds, epochs=budget.epochs, side_by_side=budget.side_by_side)
    if data.validation is None:
        raise UserError("Settings are chosen on validation images, which split notebooks has none of; use slides.")


def _train(
    stage: str,
    label: str,
    rates: Sequence[float],
    lesson: Lesson,
    data: Dataset,
    budget: Budget,
    journal: Journal,
    checkpoints: Checkpoints,
    event_files: EventFiles,
    progress: EpochProgress,
) -> None:
    """Train every rate with every seed of its stage that the journal does not hold yet, and add them to it."""

    def folders(rate: float, seed: int) -> tuple[str, ...]:
        return stage, label, f"{rate:g}", f"seed-{seed}"

    steps = {"steps_per_epoch": math.ceil(data.epoch_length / lesson.batch_size), "test_every": budget.test_every}
    done = {(entry["learning_rate"], entry["seed"]): entry for entry in _entries(journal, stage, label)}
    for name, entry in done.items():
        event_files.complete(folders(*name), epoch_points(entry, data, **steps))
    seeds = budget.tuning_seeds if stage == "tuning" else budget.final_seeds
    runs = {(rate, seed): Run(seed, (("learning_rate", rate),)) for rate in rates for seed in seeds}
    trained = train_runs(
        lesson,
        data,
        list(runs.values()),
        done=[run for name, run in runs.items() if name in done],
        epochs=budget.epochs,
        side_by_side=budget.side_by_side,
        test_every=None if stage == "tuning" else budget.test_every,
        checkpoints=checkpoints,
    )
    for epoch, run in ended_runs(trained, budget.epochs):
        rate = dict(epoch.run.hyperparameters)["learning_rate"]
        event_files.add(folders(rate, epoch.run.seed), epoch, data, **steps)
        progress.show(f"{stage}  {label}, learning rate {rate:g}", epoch, line=run is not None)
        if run is not None:
            journal.add({"stage": stage, "optimizer": label, "learning_rate": rate, **run_record(run)})


# --- summaries of the journal's runs ---


def _entries(journal: Iterable[Mapping[str, Any]], stage: str, label: str) -> list[Mapping[str, Any]]:
    return [entry for entry in journal if entry["stage"] == stage and entry["optimizer"] == label]


def tuning_summary(
    journal: Iterable[Mapping[str, Any]], contestant: Contestant, seeds: Sequence[int], images: int
) -> dict[str, Any]:
    """What tuning found, by validation images right after the last epoch (of a diverged run: the one it ended with).

    Returns:
      `learning_rates`; `validation_correct`, for each rate a list of one count per seed; of the same shape `diverged`,
      and `test_correct`, which has no part in the choice;
      `learning_rate`, the one with the highest sum; `at_edge`, whether it is the grid's first or last;
      `good_learning_rates`, the lowest and highest of the good ones around it.
    """
    rates = contestant.learning_rates
    found = {(entry["learning_rate"], entry["seed"]): entry for entry in _entries(journal, "tuning", contestant.label)}
    runs = [[found[rate, seed] for seed in seeds] for rate in rates]
    correct = [[run["validation_correct"][-1] for run in row] for row in runs]
    totals = [sum(row) for row in correct]
    best = totals.index(max(totals))
    return {
        "learning_rates": list(rates),
        "validation_correct": correct,
        "test_correct": [[run["test_correct"][-1] for run in row] for row in runs],
        "diverged": [[run["diverged"] for run in row] for row in runs],
        "learning_rate": rates[best],
        "at_edge": best in (0, len(rates) - 1),
        "good_learning_rates": [rates[place] for place in good_range(totals, images * len(seeds))],
    }


def _chosen(found: Mapping[str, Any]) -> tuple[int, int]:
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


def final_summary(
    journal: Iterable[Mapping[str, Any]],
    label: str,
    budget: Budget,
    images: int,
    steps_per_epoch: int,
    seconds_per_epoch: float,
) -> dict[str, Any]:
    """The fresh runs of a contestant.

    Returns:
      `contestant`, `learning_rate`, `seeds`; for each seed the curves `test_correct`, `test_loss`, `train_loss`,
      `validation_correct`, `tests` (test images right along the way) and whether it `diverged`; `steps_to`: target in
      percent -> for each seed the steps to reach it on the `images` test images, None if never; `seconds_per_epoch`,
      of one run alone.
    """
    by_seed = {entry["seed"]: entry for entry in _entries(journal, "final", label)}
    # An epoch of fewer than `test_every` steps is tested at its end only.
    runs = [{"tests": [[] for _ in by_seed[seed]["test_correct"]], **by_seed[seed]} for seed in budget.final_seeds]
    curves = ("test_correct", "test_loss", "train_loss", "validation_correct", "tests", "diverged")
    return {
        "contestant": label,
        "learning_rate": runs[0]["learning_rate"],
        "seeds": list(budget.final_seeds),
        **{name: [run[name] for run in runs] for name in curves},
        "steps_to": {
            str(target): [
                steps_to(needed, run["tests"], run["test_correct"], budget.test_every, steps_per_epoch) for run in runs
            ]
            for target, needed in ((target, -(-target * images // 100)) for target in TARGETS)  # rounded up
        },
        "seconds_per_epoch": seconds_per_epoch,
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


def _seconds_alone(
    lessons: Mapping[str, Lesson], data: Dataset, journal: Journal, repeats: int = 3
) -> dict[str, float]:
    """Label -> median seconds per epoch of one run by itself, as its runs were compiled; kept in the journal."""
    seconds: dict[str, list[float]] = {}
    for entry in journal:
        if entry["stage"] == "timing":
            seconds = entry["seconds"]
    if not seconds:
        seconds = {label: [] for label in lessons}
        run, placed = Run(0), on_device(data)
        trainers = {label: Trainer(lesson, placed, [run]) for label, lesson in lessons.items()}
        states = {label: trainer.start([run]) for label, trainer in trainers.items()}
        for label, trainer in trainers.items():
            trainer.compile(states[label])
        for repeat in range(repeats + 1):  # in turn; the first does not count
            for label, trainer in trainers.items():
                began = time.perf_counter()
                states[label], loss, _ = trainer.epoch(states[label])
                loss.block_until_ready()
                if repeat:
                    seconds[label].append(time.perf_counter() - began)
        journal.add({"stage": "timing", "seconds": seconds})
    return {label: statistics.median(times) for label, times in seconds.items()}


def at_chance(correct: Sequence[int], diverged: Sequence[bool], images: int) -> int:
    """How many runs ended finite, but with at most `AT_CHANCE` percent of the images right."""
    return sum(100 * count <= AT_CHANCE * images for count, lost in zip(correct, diverged, strict=True) if not lost)


def median_steps(steps: Sequence[int | None]) -> float:
    """Median over runs; infinite where half of them or more never got there."""
    return statistics.median(math.inf if step is None else step for step in steps)
