"""The loop over epochs: many runs of a lesson, side by side where that is faster, continued where they stopped."""

import dataclasses
import itertools
import time
from collections.abc import Collection, Iterator, Sequence, Set

import jax

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson, check_activations, check_batches, for_run
from mnist_jax.optimizers import is_whole
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.devices import Placement, Trainer, check_placement, fetched, largest_evaluation
from mnist_jax.runs.records import Epoch, Run, RunRecord, pack_bits
from mnist_jax.runs.states import other_version
from mnist_jax.train import TrainState, check_dtype, scheduled_rate

EPOCHS = 10  # as in the notebooks
MOST_STEPS = 2**31 - 1  # of a run: an int32 counts them


def train_runs(
    lesson: Lesson,
    data: Dataset,
    runs: Sequence[Run],
    *,
    epochs: int = EPOCHS,
    placement: Placement = Placement(),
    test_every: int | None = None,
    checkpoints: Checkpoints | None = None,
    done: Collection[Run] = (),
) -> Iterator[Epoch]:
    """Train all runs with one compiled program, yielding each run's epoch as it ends.

    Runs train in groups, spread over the devices of the placement (by default those of all processes), on each of them
    under `jax.vmap`. Every process gets every epoch. A group always trains as a whole: the number of runs side by side
    changes the last digits.

    Args:
      lesson: lesson to train.
      data: training data.
      runs: seeds and hyperparameters.
      epochs: number of epochs of each run; a run that diverges ends with that epoch.
      placement: how runs are placed on devices.
      test_every: number of steps between further evaluations on the test split; if given, a run's last epoch also
        records which test images are right.
      checkpoints: where groups under way are kept; a group that is found there continues from its newest checkpoint,
        and its epochs before that are yielded again.
      done: those of `runs` whose epochs are known; they are not yielded, and a group of only such runs is not trained.

    Raises:
      UserError: see `check_runs`.
    """
    check_runs(lesson, data, runs, epochs=epochs, placement=placement)
    lesson = for_run(lesson, steps_per_epoch=data.steps(lesson), epochs=epochs)
    trainer = Trainer(lesson, data, runs, placement, test_every=test_every)
    groups = [runs[first : first + trainer.width] for first in range(0, len(runs), trainer.width)]
    return itertools.chain.from_iterable(
        _train_group(trainer, group, epochs, checkpoints, frozenset(done)) for group in groups
    )


def check_runs(
    lesson: Lesson, data: Dataset, runs: Sequence[Run], *, epochs: int, placement: Placement = Placement()
) -> None:
    """Raise what `train_runs` would raise, before anything slow.

    Raises:
      UserError: no epochs, no runs, a seed that is not 0 to 2^32-1, a hyperparameter that the optimizer lacks or that
        is out of range, a schedule that does not fit the run, a batch larger than the training data, float64
        without jax_enable_x64, devices over which the hidden units cannot be split evenly, or more runs side by side
        than fit.
      ValueError: runs that name different hyperparameters.
    """
    if epochs < 1:
        raise UserError(f"The number of epochs must be at least 1, not {epochs}.")
    if not runs:
        raise UserError("At least one run is needed.")
    if not all(is_whole(run.seed) and 0 <= run.seed < 2**32 for run in runs):
        raise UserError(f"Seeds must be whole numbers from 0 to {2**32 - 1:,}.")
    if lesson.batch_size > data.train.size:
        raise UserError(
            f"A batch of {lesson.batch_size} is larger than the {data.train.size} training images; "
            "use a smaller batch or more data."
        )
    check_dtype(lesson)
    check_batches(lesson, data.epoch_length)
    check_activations(lesson, largest_evaluation(data))
    if epochs * data.steps(lesson) > MOST_STEPS:
        raise UserError(f"A run may take at most {MOST_STEPS:,} steps; train fewer epochs.")
    lesson = for_run(lesson, steps_per_epoch=data.steps(lesson), epochs=epochs)
    for hyperparameters in {run.hyperparameters for run in runs}:
        lesson.optimizer.check(dict(hyperparameters))
    if len({tuple(name for name, _ in run.hyperparameters) for run in runs}) > 1:
        raise ValueError("All runs must give the same hyperparameters; their values may differ.")
    check_placement(placement, lesson, data, len(runs))


def _train_group(
    trainer: Trainer, group: Sequence[Run], epochs: int, checkpoints: Checkpoints | None, done: Set[Run]
) -> Iterator[Epoch]:
    """The epochs of a group's runs that are not done, until each diverges or ends."""
    kept = None if checkpoints is None else checkpoints.of(trainer.name(group))
    if not done >= set(group):
        past, states = _continued(trainer, group, kept)
        diverged: set[Run] = set()
        for number in range(1, epochs + 1):
            is_new = number > len(past)
            if is_new:
                states, ended = _train_epoch(trainer, states, group, number, is_last=number == epochs)
                past.append(ended)
            shown = [epoch for epoch in past[number - 1] if epoch.run not in diverged | done]
            diverged |= {epoch.run for epoch in past[number - 1] if epoch.diverged}
            is_over = diverged >= set(group)
            if is_new and kept is not None and (is_over or kept.is_due(number, epochs)):
                records = [RunRecord.of_epochs(run) for run in zip(*past, strict=True)]
                kept.save(number, trainer.arrays(states, len(group)), [record.to_json() for record in records])
            yield from shown
            if is_over:
                break
    if kept is not None:
        kept.finish()


def _continued(
    trainer: Trainer, group: Sequence[Run], kept: Checkpoints | None
) -> tuple[list[list[Epoch]], TrainState]:
    """A group's epochs so far, one list per epoch, and its states after them."""
    states = trainer.start(group)
    if kept is None or (found := kept.newest()) is None:
        return [], states
    try:
        runs = [RunRecord.from_json(values).epochs(run) for run, values in zip(group, found.history, strict=True)]
        past = [list(ended) for ended in zip(*runs, strict=True)]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise other_version() from error
    return past, trainer.restored(states, found.arrays)


def _train_epoch(
    trainer: Trainer, states: TrainState, group: Sequence[Run], number: int, *, is_last: bool
) -> tuple[TrainState, list[Epoch]]:
    """Train a group for its epoch `number`, and evaluate it."""
    if not trainer.is_compiled:
        trainer.compile(states)
    began = time.perf_counter()
    # An implicit copy between host and device would be a bug: fail instead of slowing down.
    with jax.transfer_guard("disallow"):
        states, loss, tests = trainer.epoch(states)
        loss.block_until_ready()
        seconds = time.perf_counter() - began
        tested, validated = trainer.evaluate(states)
    loss, tests, tested, validated, rates = fetched((loss, tests, tested, validated, scheduled_rate(states)))
    epochs = [
        Epoch(
            run=run,
            number=number,
            train_loss=float(loss[i]),
            test_loss=float(tested.loss[i]),
            test_correct=int(tested.correct[i]),
            validation_correct=None if validated is None else int(validated.correct[i]),
            validation_loss=None if validated is None else float(validated.loss[i]),
            seconds=seconds / len(group),
            tests=tuple(map(int, tests[i])),
            learning_rate=None if rates is None else float(rates[i]),
        )
        for i, run in enumerate(group)
    ]
    ended = [is_last or epoch.diverged for epoch in epochs]
    rows = fetched(trainer.right(states)) if any(ended) and trainer.tells_right else []
    for i, (row, has_ended) in enumerate(zip(rows, ended, strict=False)):
        if has_ended:  # so that the count matches the images even if the evaluation rounds differently
            epochs[i] = dataclasses.replace(epochs[i], test_correct=int(row.sum()), right=pack_bits(row))
    return states, epochs
