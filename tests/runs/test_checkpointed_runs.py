"""Runs that continue from their checkpoints."""

import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import pytest
from helpers.checkpoints import assert_same, epochs_in, files
from helpers.lessons import NARROW, exact, first_and_last_quick

from mnist_jax import UserError
from mnist_jax.runs import loop as experiment
from mnist_jax.runs.checkpoints import Checkpoints, last_checkpoint
from mnist_jax.runs.devices import Placement, Trainer
from mnist_jax.runs.loop import train_runs
from mnist_jax.runs.records import Run


def results(epochs):
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in epochs]


def last_arrays(folder, run):
    (group,) = folder.glob(f"seed-{run.seed}-*")
    return last_checkpoint(group).arrays


def first(count, epochs):
    """The first `count` epochs, as if the process was killed after them."""
    return [epoch for _, epoch in zip(range(count), epochs, strict=False)]


@first_and_last_quick(NARROW)
@pytest.mark.parametrize("stop", [1, 3])
def test_resumed_run_matches_uninterrupted_run(lesson, dataset, tmp_path, stop):
    whole, parts = Checkpoints(tmp_path / "whole"), Checkpoints(tmp_path / "parts")
    trained = {"epochs": 3, "test_every": 1}  # so that right images are recorded
    expected = list(train_runs(lesson, dataset, [Run(3)], checkpoints=whole, **trained))
    first(stop, train_runs(lesson, dataset, [Run(3)], checkpoints=parts, **trained))
    found = list(train_runs(lesson, dataset, [Run(3)], checkpoints=parts, **trained))
    assert [epoch.right is None for epoch in found] == [True, True, False]
    assert results(found) == results(expected)
    assert_same(last_arrays(tmp_path / "parts", Run(3)), last_arrays(tmp_path / "whole", Run(3)))


# Six runs, four of them side by side: two diverge at once and two later, one each of the last group, which is not full.
SIX = [Run(seed, (("learning_rate", rate),)) for seed, rate in enumerate([0.1, 1e30, 0.03, 0.05, 1e30, 0.2])]
LATER = {(3, 2), (5, 2)}


@pytest.fixture
def six_runs(dataset, one_device, monkeypatch):
    """Train the six from where they are: (run, number) -> epoch."""
    one_device()
    diverged = experiment.Epoch.diverged.fget
    late = property(lambda epoch: (epoch.run.seed, epoch.number) in LATER or diverged(epoch))
    monkeypatch.setattr(experiment.Epoch, "diverged", late)
    lesson = NARROW["relu"]

    def train(checkpoints=None, done=(), stop=99, side_by_side=4):
        options = {"epochs": 3, "placement": Placement(side_by_side), "checkpoints": checkpoints, "test_every": 1}
        epochs = first(stop, train_runs(lesson, dataset, SIX, done=done, **options))
        assert not {epoch.run for epoch in epochs} & set(done)
        return {(epoch.run.seed, epoch.number): repr(dataclasses.replace(epoch, seconds=0.0)) for epoch in epochs}

    return train


LAST = {0: 3, 1: 1, 2: 3, 3: 2, 4: 1, 5: 2}  # seed -> epoch


def over(epochs):
    """The runs of which these are all epochs, as a journal has them."""
    return [run for run in SIX if (run.seed, LAST[run.seed]) in epochs]


def test_group_resumes_as_the_same_group(six_runs, tmp_path):
    whole = six_runs()
    assert len(whole) == sum(LAST.values())
    for stop in (3, 8, 10):  # the last of them in the last group
        checkpoints = Checkpoints(tmp_path / str(stop), keep_last=False)
        before = six_runs(checkpoints, stop=stop)
        done = over(before)
        after = six_runs(checkpoints, done=done)
        assert {**before, **after} == whole
        assert set(after) == {key for key in whole if key[0] not in [run.seed for run in done]}
        assert files(tmp_path) == []


def test_group_with_lost_checkpoint_restarts_as_the_same_group(six_runs, tmp_path):
    whole = six_runs()
    done = over(six_runs(Checkpoints(tmp_path), stop=4))
    assert [run.seed for run in done] == [1]
    shutil.rmtree(tmp_path)
    assert six_runs(Checkpoints(tmp_path), done=done) == {key: epoch for key, epoch in whole.items() if key[0] != 1}


def test_finished_group_is_cleaned_up(six_runs, tmp_path):
    checkpoints = Checkpoints(tmp_path / "runs", keep_last=False)
    six_runs(checkpoints, stop=8)  # as if killed after the journal had the first group, and before it was removed
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert six_runs(checkpoints, done=SIX) == {}
    assert not (tmp_path / "runs").exists()


def test_different_group_width_does_not_resume_the_checkpoint(six_runs, tmp_path):
    six_runs(Checkpoints(tmp_path), stop=6)
    for other in (2, 6):
        assert six_runs(Checkpoints(tmp_path), side_by_side=other) == six_runs(side_by_side=other)


@pytest.mark.parametrize(("first", "then"), [(1, 4), (4, 2), (2, 1)])
def test_run_continues_on_another_number_of_devices(dataset, tmp_path, first, then):
    def train(devices_per_run, **options):
        lesson, placement = (
            exact(NARROW["adam"]),
            Placement(devices_per_run=devices_per_run),
        )
        return train_runs(lesson, dataset, [Run(0)], epochs=3, placement=placement, **options)

    with jax.enable_x64(True):
        stopped = list(itertools.islice(train(first, checkpoints=Checkpoints(tmp_path)), 2))
        *before, last = train(then, checkpoints=Checkpoints(tmp_path))
        *_, whole = train(first)
    assert before == stopped  # their seconds too: they are not trained again
    assert last.test_loss == pytest.approx(whole.test_loss, rel=1e-9)


def test_group_name_covers_everything_that_changes_which_runs_train_side_by_side(dataset, one_device):
    def name(runs, group, **options):
        return Trainer(NARROW["mlp"], dataset, runs, **options).name(group)

    names = [  # four devices, one run each: the last group is two, filled up to four
        name(SIX, SIX[4:], placement=Placement(1)),
        name(SIX[:2], SIX[:2]),
        name(SIX, SIX[4:], placement=Placement(2)),
        name(SIX, SIX[4:], placement=Placement(1), test_every=1),
    ]
    one_device()
    names += [name(SIX, SIX[4:], placement=Placement(wide)) for wide in (1, 2, 4)]
    assert len(set(names)) == len(names)


def test_history_of_different_runs_is_refused(dataset, tmp_path):
    runs = [Run(0), Run(1)]
    checkpoints = Checkpoints(tmp_path)
    list(train_runs(NARROW["mlp"], dataset, runs, epochs=1, checkpoints=checkpoints))
    kept = checkpoints.of(next(tmp_path.iterdir()).name)
    found = kept.newest()
    kept.save(1, found.arrays, found.history[:1])
    with pytest.raises(UserError, match="another version"):
        list(train_runs(NARROW["mlp"], dataset, runs, epochs=2, checkpoints=checkpoints))


def test_finished_runs_leave_their_last_checkpoint_or_nothing(dataset, tmp_path):
    for keep_last, left in ((True, [2]), (False, [])):
        folder = tmp_path / str(keep_last)
        list(
            train_runs(
                NARROW["mlp"],
                dataset,
                [Run(0)],
                epochs=2,
                checkpoints=Checkpoints(folder, keep=1, keep_last=keep_last),
            )
        )
        assert [epoch for group in folder.glob("*") for epoch in epochs_in(group)] == left


@pytest.mark.parametrize(("every", "left"), [(2, [2, 4, 5]), (9, [5])])
def test_checkpoint_interval_is_configurable(dataset, tmp_path, every, left):
    checkpoints = Checkpoints(tmp_path, every=every, keep=9)
    list(train_runs(NARROW["mlp"], dataset, [Run(0)], epochs=5, checkpoints=checkpoints))
    (group,) = tmp_path.iterdir()
    assert epochs_in(group) == left


def test_clock_jumping_back_changes_nothing(dataset, tmp_path, monkeypatch):
    expected = results(train_runs(NARROW["mlp"], dataset, [Run(0)], epochs=3))
    now = itertools.count(2_000_000_000, -86_400)
    monkeypatch.setattr("time.time", lambda: float(next(now)))
    monkeypatch.setattr("time.time_ns", lambda: next(now) * 10**9)
    checkpoints = Checkpoints(tmp_path)
    first(2, train_runs(NARROW["mlp"], dataset, [Run(0)], epochs=3, checkpoints=checkpoints))
    assert results(train_runs(NARROW["mlp"], dataset, [Run(0)], epochs=3, checkpoints=checkpoints)) == expected


def test_different_training_does_not_resume_the_checkpoint(dataset, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    list(train_runs(NARROW["mlp"], dataset, [Run(0)], epochs=1, checkpoints=checkpoints))
    changed = dataclasses.replace(NARROW["mlp"], batch_size=16)
    found = list(train_runs(changed, dataset, [Run(0)], epochs=1, checkpoints=checkpoints))
    assert results(found) == results(train_runs(changed, dataset, [Run(0)], epochs=1))


def test_checkpoint_with_different_arrays_is_refused(dataset):
    trainer = Trainer(NARROW["mlp"], dataset, [Run(0)])
    states = trainer.start([Run(0)])
    arrays = trainer.arrays(states, 1)
    back = trainer.restored(states, arrays)
    assert_same(trainer.arrays(back, 1), arrays)
    assert jax.tree.structure(back) == jax.tree.structure(states)
    with pytest.raises(UserError, match="another version"):
        trainer.restored(states, {**arrays, "more": np.zeros(1)})


def test_the_history_is_json(dataset, tmp_path):
    lesson = dataclasses.replace(
        NARROW["relu"], optimizer=dataclasses.replace(NARROW["relu"].optimizer, learning_rate=1e30)
    )
    checkpoints = Checkpoints(tmp_path)
    once = list(train_runs(lesson, dataset, [Run(0)], epochs=3, checkpoints=checkpoints))
    again = list(train_runs(lesson, dataset, [Run(0)], epochs=3, checkpoints=checkpoints))
    assert [epoch.diverged for epoch in once] == [epoch.diverged for epoch in again] == [True]
    (folder,) = tmp_path.iterdir()
    assert json.dumps(last_checkpoint(folder).history, allow_nan=False)
