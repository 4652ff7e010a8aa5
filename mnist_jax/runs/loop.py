"""Runs of a lesson: the loop over epochs, side by side where that is faster, and what is recorded of it."""

import math
import time
from collections.abc import Collection, Iterator, Sequence, Set
from typing import Any

import jax

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson, check_activations, check_batches
from mnist_jax.optimizers import is_whole
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.devices import Trainer, fetched, largest_evaluation, most_side_by_side
from mnist_jax.runs.records import MOST_SEEDS, Epoch, Run
from mnist_jax.runs.states import other_version
from mnist_jax.train import TrainState

EPOCHS = 10  # as in the notebooks
MOST_STEPS = 2**31 - 1  # of a run: an int32 counts them


def train_lesson(
    lesson: Lesson, data: Dataset, *, seeds: Sequence[int], epochs: int = EPOCHS, **rest: Any
) -> Iterator[Epoch]:
    """Train one run per seed; `rest` are further arguments of `train_runs`."""
    check_run(lesson, data, seeds=seeds, epochs=epochs)  # before a list of a billion seeds is made
    return train_runs(lesson, data, [Run(seed) for seed in seeds], epochs=epochs, **rest)


def train_runs(
    lesson: Lesson,
    data: Dataset,
    runs: Sequence[Run],
    *,
    done: Collection[Run] = (),
    epochs: int = EPOCHS,
    side_by_side: int | None = None,
    devices_per_run: int = 1,
    test_every: int | None = None,
    checkpoints: Checkpoints | None = None,
) -> Iterator[Epoch]:
    """Train all runs with one compiled program, and yield each run's epoch as it ends.

    Runs go in groups: `side_by_side` of them under `jax.vmap` on each of `jax.devices()`, those of all processes. Every
    process gets every epoch. A group always trains whole: the number of runs side by side changes the last digits.

    Args:
      lesson: lesson to train.
      data: training data.
      runs: which seeds and hyperparameters.
      done: those of `runs` whose epochs are known; they are not yielded, and groups of nothing else not trained.
      epochs: of each run; one that diverges ends with the epoch in which it did.
      side_by_side: runs on one device at a time; None chooses by backend and by what fits (`most_side_by_side`).
      devices_per_run: how many devices share each batch of a run; worth it for large batches only.
      test_every: evaluate on the test split after every so many steps too.
      checkpoints: where groups under way are kept; a group that is found there continues from its newest checkpoint,
        and its epochs before that are yielded again.

    Raises:
      UserError: no epochs, no runs, a seed that is not 0 to 2^32-1, a hyperparameter that the optimizer lacks or
        that is out of its range, a batch larger than the training data, devices that cannot share it evenly, or more
        runs side by side than fit.
    """
    check_run(
        lesson,
        data,
        seeds=[run.seed for run in runs],
        epochs=epochs,
        side_by_side=side_by_side,
        devices_per_run=devices_per_run,
    )
    for run in runs:
        lesson.optimizer.check(dict(run.hyperparameters))
    if len({tuple(name for name, _ in run.hyperparameters) for run in runs}) > 1:
        raise ValueError("All runs must give the same hyperparameters; their values may differ.")
    trainer = Trainer(
        lesson, data, runs, side_by_side=side_by_side, devices_per_run=devices_per_run, test_every=test_every
    )
    return _train_runs(trainer, runs, frozenset(done), epochs, checkpoints)


def check_run(
    lesson: Lesson,
    data: Dataset,
    *,
    seeds: Sequence[int],
    epochs: int,
    side_by_side: int | None = None,
    devices_per_run: int = 1,
) -> None:
    """Raise what `train_runs` would, before anything slow."""
    if epochs < 1:
        raise UserError(f"The number of epochs must be at least 1, not {epochs}.")
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise UserError(f"The number of seeds must be 1 to {MOST_SEEDS:,}, not {len(seeds):,}.")
    if not all(is_whole(seed) and 0 <= seed < 2**32 for seed in seeds):
        raise UserError(f"Seeds must be Python ints from 0 to {2**32 - 1}.")
    if side_by_side is not None and side_by_side < 1:
        raise UserError(f"At least 1 run a device must be trained at a time, not {side_by_side}.")
    if lesson.batch_size > data.train.size:
        raise UserError(
            f"A batch of {lesson.batch_size} is larger than the {data.train.size} training images; "
            "make it smaller or use more data."
        )
    check_batches(lesson, data.epoch_length)
    check_activations(lesson, largest_evaluation(data))
    if min(side_by_side or 1, len(seeds)) > (most := most_side_by_side(lesson, data)):
        raise UserError(f"At most {most:,} runs of this net fit on a device side by side; train fewer at a time.")
    if epochs * math.ceil(data.epoch_length / lesson.batch_size) > MOST_STEPS:
        raise UserError(f"A run may take at most {MOST_STEPS:,} steps; train fewer epochs.")
    count = len(jax.devices())
    if devices_per_run < 1 or count % devices_per_run:
        raise UserError(f"The {count} devices cannot be split into groups of {devices_per_run}.")
    if lesson.batch_size % devices_per_run:
        raise UserError(f"A batch of {lesson.batch_size} cannot be split evenly over {devices_per_run} devices.")


def _train_runs(
    trainer: "Trainer", runs: Sequence[Run], done: Set[Run], epochs: int, checkpoints: Checkpoints | None
) -> Iterator[Epoch]:
    for first in range(0, len(runs), trainer.width):
        group = runs[first : first + trainer.width]
        kept = None if checkpoints is None else checkpoints.of(trainer.name(group))
        if not done >= set(group):
            for ended in _train_group(trainer, group, epochs, kept):
                yield from (epoch for epoch in ended if epoch.run not in done)
        if kept is not None:
            kept.finish()


def _train_group(
    trainer: "Trainer", group: Sequence[Run], epochs: int, kept: Checkpoints | None
) -> Iterator[list[Epoch]]:
    """The epochs of a group's runs that had not diverged before, from its newest checkpoint on."""
    states, past = trainer.start(group), list[list[Epoch]]()
    if kept is not None and (found := kept.newest()) is not None:
        states, past = trainer.restored(states, found.arrays), _past(group, found.history)
    diverged: set[Run] = set()
    for number in range(1, epochs + 1):
        is_new = number > len(past)
        if is_new:
            states, ended = _train_epoch(trainer, states, group, number)
            past.append(ended)
        before = frozenset(diverged)
        diverged |= {epoch.run for epoch in past[number - 1] if epoch.diverged}
        is_over = diverged >= set(group)
        if is_new and kept is not None and (is_over or kept.is_due(number, epochs)):
            kept.save(number, trainer.arrays(states, len(group)), history(group, past))
        yield [epoch for epoch in past[number - 1] if epoch.run not in before]
        if is_over:
            break


def _train_epoch(
    trainer: "Trainer", states: TrainState, group: Sequence[Run], number: int
) -> tuple[TrainState, list[Epoch]]:
    """Train a group for its epoch `number`, and evaluate it."""
    if not trainer.is_compiled:
        trainer.compile(states)
    began = time.perf_counter()
    # A copy between host and device that nobody asked for would be a bug: fail, do not slow down.
    with jax.transfer_guard("disallow"):
        states, loss, tests = trainer.epoch(states)
        loss.block_until_ready()
        seconds = time.perf_counter() - began
        tested, validated = trainer.evaluate(states)
    loss, tests, tested, validated = fetched((loss, tests, tested, validated))
    return states, [
        Epoch(
            run=run,
            number=number,
            train_loss=float(loss[i]),
            test_loss=float(tested.loss[i]),
            test_correct=int(tested.correct[i]),
            validation_correct=None if validated is None else int(validated.correct[i]),
            seconds=seconds / len(group),
            tests=tuple(map(int, tests[i])),
        )
        for i, run in enumerate(group)
    ]


def history(group: Sequence[Run], past: Sequence[Sequence[Epoch]]) -> dict[str, Any]:
    """What a checkpoint says of its arrays: whose rows they are, and each run's metrics after each epoch so far."""
    return {
        "seeds": [run.seed for run in group],
        "epochs": [[epoch.as_json() for epoch in ended] for ended in past],
    }


def _past(group: Sequence[Run], history: Any) -> list[list[Epoch]]:
    """The epochs of a `history`."""
    try:
        return [
            [Epoch.of_json(run, values) for run, values in zip(group, ended, strict=True)]
            for ended in history["epochs"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise other_version() from error
