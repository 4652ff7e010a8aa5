"""Fair comparisons of optimizers: each searches its own space with as many trials, and is tested on fresh seeds.

Everything but the optimizer is the same for all: net, data, epochs, budget, and seeds, which fix initial weights and
order of examples. Settings are chosen on validation images; test images play no part in that. Every trial trains to its
end: rankings along the way depend on the schedule (Wen et al. 2025, arXiv:2509.02046).
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson
from mnist_jax.optimizers.parameters import Value
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.loop import check_runs
from mnist_jax.runs.records import MOST_SEEDS, Run, RunRecord
from mnist_jax.studies.spaces import COURSE, Setting, Space

# Trials, confirmation and final runs never share a seed; trial i has seed i.
CONFIRMATION_SEEDS = (1000, 1001, 1002)
FIRST_FINAL_SEED = 2000
CONFIRMED = 4  # number of best trials that are trained again; at most half of a small search
TEST_EVERY = 250  # steps between tests of final runs

# Integers, to compare numbers of right answers exactly: 0.98 is no float.
GOOD_WITHIN = 5  # validation images per 1,000 by which a good trial may be worse than the best one
TARGETS = (95, 97, 98)  # test accuracies to reach, in percent
AT_CHANCE = 20  # percent right, twice what guessing gives; a run that ends no higher learned nothing, or lost it


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every optimizer gets.

    Attributes:
      trials: number of settings drawn, besides trial 0.
      final_seeds: fresh seeds for the chosen setting and the course's.
      test_every: number of steps between tests of final runs.
    """

    trials: int
    final_seeds: tuple[int, ...]
    test_every: int = TEST_EVERY

    @classmethod
    def of_counts(cls, trials: int, finals: int) -> "Budget":
        """A budget with these numbers of trials and final runs.

        Raises:
          UserError: fewer than the 2 final runs that an interval needs, or more than `MOST_SEEDS`.
        """
        if not 2 <= finals <= MOST_SEEDS:
            raise UserError(f"The final runs take 2 to {MOST_SEEDS:,} seeds, not {finals:,}.")
        return cls(trials, tuple(range(FIRST_FINAL_SEED, FIRST_FINAL_SEED + finals)))

    @property
    def confirmed(self) -> int:
        """Number of best trials that are trained again."""
        return max(1, min(CONFIRMED, self.trials // 2))

    def runs(self, space: Space) -> int:
        """Largest number of runs of one search; if the course's setting is chosen, its final runs are trained once."""
        finals = len(self.final_seeds) * (1 + (space.label in COURSE))
        return 1 + self.trials + self.confirmed * len(CONFIRMATION_SEEDS) + finals

    def seeds(self) -> dict[str, Any]:
        """For results.json: the first trial's seed, and all seeds of confirmation and final runs."""
        return {"trials": 0, "confirmation": list(CONFIRMATION_SEEDS), "finals": list(self.final_seeds)}


class Train(Protocol):
    """A function that trains runs."""

    def __call__(
        self, part: Mapping[str, str], lesson: Lesson, runs: Sequence[Run], test_every: int | None = None
    ) -> list[RunRecord]:
        """Return the runs' records, in order; `part` distinguishes them from other runs of the study."""


def compare(
    spaces: Sequence[Space], nets: Mapping[str, Lesson], data: Dataset, budget: Budget, epochs: int, train: Train
) -> dict[str, Any]:
    """Search each space on each net, then train what was chosen with fresh seeds.

    Args:
      spaces: search spaces with different labels.
      nets: id of a lesson -> the lesson, whose own optimizer is not used.
      data: data with a validation split.
      budget: budget of every optimizer.
      epochs: number of epochs of each run.
      train: trains runs, unless their records are known.

    Returns:
      For results.json: net -> label -> `Search.entry`.
    """
    return {
        net: {space.label: Search(space, net, lesson, data, budget, epochs).entry(train) for space in spaces}
        for net, lesson in nets.items()
    }


@dataclasses.dataclass(frozen=True)
class Search:
    """One optimizer on one net; see `compare` for the attributes."""

    space: Space
    net: str
    lesson: Lesson
    data: Dataset
    budget: Budget
    epochs: int

    def settings(self) -> list[dict[str, Value]]:
        """The settings of all trials, trial 0 first."""
        return self.space.trials(self.data.name, self.net, self.budget.trials)

    def entry(self, train: Train) -> dict[str, Any]:
        """Search, choose, and train the final runs; the entry for results.json.

        It has `trials`, in order; `confirmation` of the best of them; `chosen`, a trial's number; its `final` runs; and
        those of the `course`'s setting, if the course uses this optimizer and another setting was chosen.
        """
        settings = self.settings()
        records = self._trained(train, "trials", list(enumerate(settings)))
        trials = [_trial(record.seed, settings[record.seed], record) for record in records]
        best = best_trials(trials, self.budget.confirmed)
        again = [(seed, settings[number]) for number in best for seed in CONFIRMATION_SEEDS]
        confirmed = iter(self._trained(train, "confirmation", again))
        confirmation = [
            _confirmation(number, list(itertools.islice(confirmed, len(CONFIRMATION_SEEDS)))) for number in best
        ]
        chosen = chosen_trial(confirmation)
        # Trained together, because they may share a program.
        finals = {"final": chosen}
        if chosen and self.space.label in COURSE:
            finals["course"] = 0
        seeds = self.budget.final_seeds
        wanted = [(seed, settings[number]) for number in finals.values() for seed in seeds]
        tested = iter(self._trained(train, "final", wanted, self.budget.test_every))
        return {
            "trials": trials,
            "confirmation": confirmation,
            "chosen": chosen,
            **{name: final_summary(list(itertools.islice(tested, len(seeds)))) for name in finals},
        }

    def _trained(
        self, train: Train, stage: str, wanted: Sequence[tuple[int, Setting]], test_every: int | None = None
    ) -> list[RunRecord]:
        """Train runs, given as pairs of seed and setting; those that share a program are trained together."""
        variants: dict[str, list[int]] = {}
        for place, (_, setting) in enumerate(wanted):
            variants.setdefault(self.space.variant(setting), []).append(place)
        records: dict[int, RunRecord] = {}
        for variant, places in variants.items():
            part = {"net": self.net, "optimizer": self.space.label, "stage": stage}
            if variant:
                part["variant"] = variant
            runs = [Run(wanted[place][0], self.space.numbers(wanted[place][1])) for place in places]
            lesson = self.trained_lesson(wanted[places[0]][1])
            records |= zip(places, train(part, lesson, runs, test_every), strict=True)
        return [records[place] for place in range(len(wanted))]

    def trained_lesson(self, setting: Setting) -> Lesson:
        """The lesson with the optimizer that trains a setting; see `Space.program`."""
        steps = self.epochs * self.data.steps(self.lesson)
        return dataclasses.replace(self.lesson, optimizer=self.space.program(setting, steps))

    def check(self, placement: Placement) -> None:
        """Raise `UserError` for what cannot be trained."""
        for setting in self.settings():
            runs = [Run(0, self.space.numbers(setting))]
            check_runs(self.trained_lesson(setting), self.data, runs, epochs=self.epochs, placement=placement)


def check_different(optimizers: Sequence[str]) -> None:
    """Raise `UserError` unless there are at least two optimizers, and no two are the same."""
    if len(set(optimizers)) < max(2, len(optimizers)):
        raise UserError(f"Name at least two different optimizers, not {'; '.join(optimizers) or 'none'}.")


def check_comparison(
    spaces: Sequence[Space],
    nets: Mapping[str, Lesson],
    data: Dataset,
    budget: Budget,
    epochs: int,
    placement: Placement = Placement(),
) -> None:
    """Raise `UserError` for what `compare` cannot do, before anything slow."""
    check_different([space.label for space in spaces])
    if data.validation is None:
        raise UserError("Settings are chosen on validation images, which split notebooks lacks; use split slides.")
    for net, lesson in nets.items():
        for space in spaces:
            Search(space, net, lesson, data, budget, epochs).check(placement)


# --- entries of results.json ---


def _trial(number: int, setting: Setting, record: RunRecord) -> dict[str, Any]:
    return {
        "number": number,
        "seed": record.seed,
        "settings": dict(setting),
        "validation_correct": record.validation_correct,
        "validation_loss": record.validation_loss,
        "test_correct": record.test_correct,
        "diverged": _diverged(record),
    }


def _diverged(record: RunRecord) -> bool:
    """Whether the training or the validation loss became non-finite: test images play no part in the choice."""
    return None in (record.train_loss[-1], cast(list[float | None], record.validation_loss)[-1])


def _confirmation(number: int, records: Sequence[RunRecord]) -> dict[str, Any]:
    return {
        "number": number,
        "validation_correct": [cast(list[int], record.validation_correct)[-1] for record in records],
        "validation_loss": [cast(list[float | None], record.validation_loss)[-1] for record in records],
        "diverged": [_diverged(record) for record in records],
    }


def final_summary(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The final runs of a setting, one item per seed: curves, tests along the way, and images right at the end."""
    return {
        "seeds": [record.seed for record in records],
        "test_correct": [record.test_correct for record in records],
        "test_loss": [record.test_loss for record in records],
        "train_loss": [record.train_loss for record in records],
        # An epoch of fewer than `test_every` steps is tested at its end only.
        "tests": [record.tests or [[] for _ in record.test_correct] for record in records],
        "right": [record.right for record in records],
        "diverged": [record.diverged for record in records],
    }


def rank(trial: Mapping[str, Any], epoch: int | None = None) -> tuple[int, float, int]:
    """The key by which trials are compared after the last epoch, or an earlier one; higher is better.

    Returns:
      Validation images right, 0 if the loss was no longer finite; and for ties, the validation loss and the trial's
      number, both negated.
    """
    correct, losses = trial["validation_correct"], trial["validation_loss"]
    end = len(correct) if epoch is None else min(epoch, len(correct))
    lost, loss = trial["diverged"] and end == len(correct), losses[end - 1]
    return 0 if lost else correct[end - 1], -math.inf if loss is None else -loss, -trial["number"]


def score(trial: Mapping[str, Any]) -> int:
    """Validation images right after the last epoch; 0 if the loss was no longer finite."""
    return rank(trial)[0]


def best_trials(trials: Sequence[Mapping[str, Any]], count: int, epoch: int | None = None) -> list[int]:
    """Numbers of the `count` trials of highest `rank`, best first."""
    ranked = sorted(trials, key=lambda trial: rank(trial, epoch), reverse=True)
    return [trial["number"] for trial in ranked[:count]]


def chosen_trial(confirmation: Sequence[Mapping[str, Any]]) -> int:
    """Number of the trial with the most validation images right in its runs with fresh seeds; ties as in `rank`.

    The score of the trial itself does not count: the best ones were lucky.
    """

    def total(found: Mapping[str, Any]) -> tuple[int, float, int]:
        runs = zip(found["validation_correct"], found["diverged"], strict=True)
        losses = [math.inf if loss is None else loss for loss in found["validation_loss"]]
        return sum(correct for correct, lost in runs if not lost), -sum(losses), -found["number"]

    return cast(int, max(confirmation, key=total)["number"])


def at_chance(correct: Sequence[int], diverged: Sequence[bool], images: int) -> int:
    """Number of runs that did not diverge, but ended with at most `AT_CHANCE` percent of the images right."""
    return sum(100 * count <= AT_CHANCE * images for count, lost in zip(correct, diverged, strict=True) if not lost)


def steps_to(
    target: int, tests: Sequence[Sequence[int]], ends: Sequence[int], every: int, steps_per_epoch: int
) -> int | None:
    """Number of steps after which a test first found at least `target` images right, or None.

    Args:
      target: number of images.
      tests: for each epoch, the numbers of images right after `every`, 2 `every`, ... of its steps.
      ends: for each epoch, the number right after its last step.
      every: number of steps between two tests.
      steps_per_epoch: number of steps per epoch, a last partial batch included.
    """
    for number, (within, end) in enumerate(zip(tests, ends, strict=True)):
        for step, correct in [*zip(itertools.count(every, every), within, strict=False), (steps_per_epoch, end)]:
            if correct >= target:
                return number * steps_per_epoch + step
    return None


class Saving(NamedTuple):
    """What stopping the worse trials early would have saved, and lost.

    Attributes:
      kept: one trial in this many would have continued.
      after: number of epochs that all trials are trained.
      steps: share of all trials' epochs that would not have been trained.
      keeps_chosen: whether the chosen trial would have continued.
      lost: validation images by which the best trial beats the best one that would have continued.
    """

    kept: int
    after: int
    steps: float
    keeps_chosen: bool
    lost: int


def halving_savings(entry: Mapping[str, Any]) -> list[Saving]:
    """Savings from continuing only the best half, or quarter, of all trials after epoch 1, 2 or 3."""
    trials, savings = entry["trials"], []
    lengths = [len(trial["validation_correct"]) for trial in trials]
    best = max(map(score, trials))
    for kept, after in itertools.product((2, 4), range(1, min(4, max(lengths)))):
        stay = set(best_trials(trials, -(-len(trials) // kept), after))
        saved = sum(max(0, length - after) for place, length in enumerate(lengths) if place not in stay)
        lost = best - max(score(trials[place]) for place in stay)
        savings.append(Saving(kept, after, saved / sum(lengths), entry["chosen"] in stay, lost))
    return savings
