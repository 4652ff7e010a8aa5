"""Runs of a lesson: the loop over epochs, and what is recorded of it."""

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson
from mnist_jax.train import evaluate, init_state, train_epoch

EPOCHS = 10  # as in the notebooks


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One finished epoch of one run.

    Attributes:
      seed: of the run.
      number: from 1.
      train_loss: mean over the epoch of each example's cross-entropy before its step, in nats, with dropout.
      test_loss, test_accuracy: on the test split; nats, and a fraction.
      validation_accuracy: a fraction; None without a validation split.
      seconds: of training, without compilation and evaluation.
    """

    seed: int
    number: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    validation_accuracy: float | None
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether a loss is no longer finite; such a run ends here."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.test_loss))


def train_lesson(lesson: Lesson, data: Dataset, *, seeds: Sequence[int], epochs: int = EPOCHS) -> Iterator[Epoch]:
    """Train one run a seed, one after the other, with one compilation; yields each epoch as it ends.

    Raises:
      UserError: no epochs, no seeds, a seed that is not 0 to 2^32-1, or a batch larger than the training data.
    """
    check_run(lesson, data, seeds=seeds, epochs=epochs)
    return _train_lesson(lesson, data, seeds, epochs)


def check_run(lesson: Lesson, data: Dataset, *, seeds: Sequence[int], epochs: int) -> None:
    """Raise what `train_lesson` would, before anything slow."""
    if epochs < 1:
        raise UserError(f"The number of epochs must be at least 1, not {epochs}.")
    if not seeds:
        raise UserError("At least one seed is needed.")
    if any(not 0 <= seed < 2**32 for seed in seeds):
        raise UserError(f"Seeds must be 0 to {2**32 - 1}.")
    if lesson.batch_size > data.train.size:
        raise UserError(
            f"A batch of {lesson.batch_size} is larger than the {data.train.size} training images; "
            "make it smaller or use more data."
        )


def _train_lesson(lesson: Lesson, data: Dataset, seeds: Sequence[int], epochs: int) -> Iterator[Epoch]:
    train, validation, test = jax.device_put((data.train, data.validation, data.test))
    start = init_state(lesson, jax.random.key(seeds[0]))
    compiled = train_epoch.lower(start, train, length=data.epoch_length).compile()
    for seed in seeds:
        state = init_state(lesson, jax.random.key(seed))
        for number in range(1, epochs + 1):
            began = time.perf_counter()
            # A copy between host and device that nobody asked for would be a bug: fail, do not slow down.
            with jax.transfer_guard("disallow"):
                state, loss = compiled(state, train)
                loss.block_until_ready()
                seconds = time.perf_counter() - began
                tested = evaluate(state, test)
                validated = evaluate(state, validation).accuracy if validation else None
            loss, tested, validated = jax.device_get((loss, tested, validated))
            epoch = Epoch(
                seed=seed,
                number=number,
                train_loss=float(loss),
                test_loss=float(tested.loss),
                test_accuracy=float(tested.accuracy),
                validation_accuracy=None if validated is None else float(validated),
                seconds=seconds,
            )
            yield epoch
            if epoch.diverged:
                break


def record(epochs: Iterable[Epoch]) -> dict[str, Any]:
    """A lesson's entry in results.json: a list a seed, of a number an epoch; what is not finite is null."""
    runs: dict[int, list[Epoch]] = {}
    for epoch in epochs:
        runs.setdefault(epoch.seed, []).append(epoch)

    def curves(field: str) -> list[list[float | None]]:
        return [[_finite(getattr(epoch, field)) for epoch in run] for run in runs.values()]

    validated = all(epoch.validation_accuracy is not None for run in runs.values() for epoch in run)
    return {
        "seeds": list(runs),
        "test_accuracy": curves("test_accuracy"),
        "test_loss": curves("test_loss"),
        "train_loss": curves("train_loss"),
        "validation_accuracy": curves("validation_accuracy") if validated else None,
        "seconds": curves("seconds"),
        "diverged": [run[-1].diverged for run in runs.values()],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
