"""What is recorded of a training: its epochs as they end, and a record of them all."""

import base64
import dataclasses
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mnist_jax.errors import UserError

MOST_SEEDS = 10_000  # of a study; more would be a typing mistake


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a lesson.

    Attributes:
      seed: random seed of initial weights, order of examples and dropout.
      hyperparameters: (name, value) pairs that replace the lesson's optimizer's; they are traced, so other values do
        not compile again.
    """

    seed: int
    hyperparameters: tuple[tuple[str, float], ...] = ()


def runs_of_seeds(seeds: Sequence[int]) -> list[Run]:
    """One run per seed.

    Raises:
      UserError: none, or more than `MOST_SEEDS`.
    """
    if not seeds or seeds[MOST_SEEDS:]:  # a range may be too long for `len`
        raise UserError(f"The number of seeds must be 1 to {MOST_SEEDS:,}.")
    return [Run(seed) for seed in seeds]


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One finished epoch of one run.

    Attributes:
      run: the run that it belongs to.
      number: number of the epoch, from 1.
      train_loss: mean over the epoch of each example's cross-entropy before its step, in nats, with dropout.
      test_loss: on the test split, in nats.
      test_correct: test images classified correctly.
      validation_correct: validation images classified correctly; None without a validation split.
      validation_loss: on the validation split, in nats; None without one.
      seconds: training time, without compilation and evaluation; runs side by side get an equal share each. Lessons
        that train at the same time, on devices of their own, are each timed as one, though they slow each other down.
      tests: `test_correct` along the way, after every `test_every` steps of this epoch.
      learning_rate: learning rate of its last step; None without a schedule.
      right: which test images are classified correctly, encoded by `pack_bits`; only in a run's last epoch and if asked
        for, else None.
    """

    run: Run
    number: int
    train_loss: float
    test_loss: float
    test_correct: int
    validation_correct: int | None
    seconds: float
    tests: tuple[int, ...] = ()
    learning_rate: float | None = None
    validation_loss: float | None = None
    right: str | None = None

    @property
    def diverged(self) -> bool:
        """Whether a loss is no longer finite; such a run ends here."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.test_loss))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All epochs of a run, as JSON holds them: a value per epoch, None for a loss that is not finite.

    Attributes:
      seed: see `Run`.
      test_correct, test_loss, train_loss, seconds: see `Epoch`.
      validation_correct, validation_loss: see `Epoch`; None without a validation split.
      tests: see `Epoch`; None without tests along the way.
      learning_rates: learning rate of each epoch's last step; None without a schedule.
      right: the last epoch's.
      diverged: whether the loss became non-finite.
    """

    seed: int
    test_correct: list[int]
    test_loss: list[float | None]
    train_loss: list[float | None]
    validation_correct: list[int] | None = None
    validation_loss: list[float | None] | None = None
    seconds: list[float]
    tests: list[list[int]] | None = None
    learning_rates: list[float | None] | None = None
    right: str | None = None
    diverged: bool

    @classmethod
    def of_epochs(cls, epochs: Sequence[Epoch]) -> "RunRecord":
        """The record of a run's epochs so far, at least one."""
        validated = [epoch.validation_correct for epoch in epochs if epoch.validation_correct is not None]
        losses = [epoch.validation_loss for epoch in epochs]
        tests = [list(epoch.tests) for epoch in epochs]
        rates = [_finite(epoch.learning_rate) for epoch in epochs if epoch.learning_rate is not None]
        return cls(
            seed=epochs[0].run.seed,
            test_correct=[epoch.test_correct for epoch in epochs],
            test_loss=[_finite(epoch.test_loss) for epoch in epochs],
            train_loss=[_finite(epoch.train_loss) for epoch in epochs],
            validation_correct=validated or None,
            # Epochs of a checkpoint that an older version wrote have none.
            validation_loss=None if None in losses else [_finite(loss) for loss in losses if loss is not None],
            seconds=[epoch.seconds for epoch in epochs],
            tests=tests if any(tests) else None,
            learning_rates=rates or None,
            # In a group, a diverged run continues until all end: its own last epoch is the first with this.
            right=next((epoch.right for epoch in epochs if epoch.right is not None), None),
            diverged=epochs[-1].diverged,
        )

    def epochs(self, run: Run) -> list[Epoch]:
        """The recorded epochs; a loss that was not finite is NaN."""
        epochs = [
            Epoch(
                run=run,
                number=place + 1,
                train_loss=_float(self.train_loss[place]),
                test_loss=_float(self.test_loss[place]),
                test_correct=self.test_correct[place],
                validation_correct=None if self.validation_correct is None else self.validation_correct[place],
                seconds=self.seconds[place],
                tests=() if self.tests is None else tuple(self.tests[place]),
                learning_rate=None if self.learning_rates is None else _float(self.learning_rates[place]),
                validation_loss=None if self.validation_loss is None else _float(self.validation_loss[place]),
            )
            for place in range(len(self.test_correct))
        ]
        if self.right is not None:
            last = next((place for place, epoch in enumerate(epochs) if epoch.diverged), -1)
            epochs[last] = dataclasses.replace(epochs[last], right=self.right)
        return epochs

    def to_json(self) -> dict[str, Any]:
        """The fields that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunRecord":
        """The record in `values`, which may hold other things as well.

        Raises:
          KeyError: a field is missing.
        """
        fields = dataclasses.fields(cls)
        return cls(**{f.name: values[f.name] for f in fields if f.name in values or f.default is dataclasses.MISSING})


def lesson_entry(records: Sequence[RunRecord]) -> dict[str, Any]:
    """A lesson's entry in results.json: the fields of its records, each a list of one value per run."""
    columns = {
        field.name: [getattr(record, field.name) for record in records] for field in dataclasses.fields(RunRecord)
    }
    seeds = columns.pop("seed")
    known = {name: values for name, values in columns.items() if None not in values}
    return {"seeds": seeds, "validation_correct": None, **known}


def ended_runs(epochs: Iterable[Epoch], count: int) -> Iterator[tuple[Epoch, RunRecord | None]]:
    """Yield each epoch, with the run's record if it is its last: number `count`, or the one in which it diverged."""
    under_way: dict[Run, list[Epoch]] = {}
    for epoch in epochs:
        under_way.setdefault(epoch.run, []).append(epoch)
        ended = epoch.diverged or epoch.number == count
        yield epoch, RunRecord.of_epochs(under_way.pop(epoch.run)) if ended else None


def pack_bits(right: np.ndarray) -> str:
    """Encode which images a run has right, bool `[images]` in the order of the data set's file, as a string for JSON.

    The bits are compressed with zlib and written in base64: about one byte per wrong image.
    """
    return base64.b64encode(zlib.compress(np.packbits(right).tobytes(), level=9)).decode()


def unpack_bits(text: str, images: int) -> np.ndarray:
    """Decode what `pack_bits` encoded: bool `[images]`.

    Raises:
      ValueError: `text` encodes another number of images.
    """
    packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    if len(packed) != -(-images // 8):
        raise ValueError(f"The bits of {images:,} images take {-(-images // 8):,} bytes, not {len(packed):,}.")
    return np.unpackbits(packed, count=images).astype(bool)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _float(value: float | None) -> float:
    return math.nan if value is None else value
