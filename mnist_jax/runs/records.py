"""What is recorded of a training: runs, epochs, and their JSON."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

MOST_SEEDS = 10_000  # of a study; more is a slip of the finger


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a lesson.

    Attributes:
      seed: of initial weights, order and dropout.
      hyperparameters: (name, value) pairs in place of the lesson's optimizer's; they are traced, so another value
        compiles nothing.
    """

    seed: int
    hyperparameters: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One finished epoch of one run.

    Attributes:
      run: which.
      number: from 1.
      train_loss: mean over the epoch of each example's cross-entropy before its step, in nats, with dropout.
      test_loss: on the test split, in nats.
      test_correct: test images classified correctly.
      validation_correct: the same of validation images; None without a validation split.
      seconds: of training, without compilation and evaluation; of runs side by side each gets an equal share.
      tests: `test_correct` along the way, after every `test_every` steps of this epoch.
    """

    run: Run
    number: int
    train_loss: float
    test_loss: float
    test_correct: int
    validation_correct: int | None
    seconds: float
    tests: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All but the run."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "run"}

    @classmethod
    def of_json(cls, run: Run, values: Mapping[str, Any]) -> "Epoch":
        """The epoch of which `values` is `as_json()`."""
        return cls(run=run, **{**values, "tests": tuple(values["tests"])})

    @property
    def diverged(self) -> bool:
        """Whether a loss is no longer finite; such a run ends here."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.test_loss))


def run_record(epochs: Sequence[Epoch]) -> dict[str, Any]:
    """All of one run, for a journal: a number an epoch; what is not finite is null."""

    def curve(field: str) -> list[float | None]:
        return [_finite(getattr(epoch, field)) for epoch in epochs]

    validated = all(epoch.validation_correct is not None for epoch in epochs)
    return {
        "seed": epochs[0].run.seed,
        "test_correct": curve("test_correct"),
        "test_loss": curve("test_loss"),
        "train_loss": curve("train_loss"),
        **({"validation_correct": curve("validation_correct")} if validated else {}),
        "seconds": curve("seconds"),
        **({"tests": [list(epoch.tests) for epoch in epochs]} if any(epoch.tests for epoch in epochs) else {}),
        "diverged": epochs[-1].diverged,
    }


def lesson_record(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A lesson's entry in results.json, of `run_record`s: lists of a value a run."""
    names = "test_correct", "test_loss", "train_loss", "validation_correct", "seconds", "tests", "diverged"
    known = [name for name in names if all(name in run for run in runs)]
    return {
        "seeds": [run["seed"] for run in runs],
        "validation_correct": None,
        **{name: [run[name] for run in runs] for name in known},
    }


def ended_runs(epochs: Iterable[Epoch], count: int) -> Iterator[tuple[Epoch, list[Epoch] | None]]:
    """Pass epochs on, with all of a run's where it is its last: number `count`, or the one in which it diverged."""
    under_way: dict[Run, list[Epoch]] = {}
    for epoch in epochs:
        run = under_way.setdefault(epoch.run, [])
        run.append(epoch)
        ended = epoch.diverged or epoch.number == count
        yield epoch, under_way.pop(epoch.run) if ended else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
