"""Runs whose learning rate changes from step to step."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
from helpers.checkpoints import assert_same
from helpers.lessons import NARROW

from mnist_jax import UserError, optimizer, schedule
from mnist_jax.cli import commands as cli
from mnist_jax.nets.trained import read_nets
from mnist_jax.runs import devices
from mnist_jax.runs.checkpoints import Checkpoints, last_checkpoint
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.files import RESULTS
from mnist_jax.runs.loop import check_runs, train_runs
from mnist_jax.runs.records import Run, RunRecord
from mnist_jax.train import train_epoch

COSINE = schedule("warmup_cosine_decay", warmup_epochs=1)
STEPS = 3  # of an epoch of 66 examples: two batches of 32 and one of 2


def scheduled(lesson_id, chosen=COSINE, **changes):
    lesson = NARROW[lesson_id]
    return dataclasses.replace(lesson, optimizer=dataclasses.replace(lesson.optimizer, schedule=chosen), **changes)


def without_seconds(epochs):
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in epochs]


def cosine(peak, epochs):
    """The rate at the last step of each epoch, by optax."""
    rate = optax.warmup_cosine_decay_schedule(0.0, peak, STEPS, STEPS * epochs)
    with jax.numpy_dtype_promotion("standard"):
        return [float(rate(STEPS * number - 1)) for number in range(1, epochs + 1)]


@pytest.mark.parametrize("epochs", [2, 5])
def test_every_epoch_has_the_rate_of_its_last_step(dataset, epochs):
    found = list(train_runs(scheduled("mlp"), dataset, [Run(0)], epochs=epochs))
    assert [epoch.learning_rate for epoch in found] == pytest.approx(cosine(0.01, epochs), rel=1e-5)
    assert all(epoch.learning_rate is None for epoch in train_runs(NARROW["mlp"], dataset, [Run(0)], epochs=1))


def test_tests_on_the_way_and_shared_devices_change_no_rate(dataset):
    for options in ({"test_every": 2}, {"placement": Placement(devices_per_run=2)}):
        found = list(train_runs(scheduled("adam"), dataset, [Run(0)], epochs=2, **options))
        assert [epoch.learning_rate for epoch in found] == pytest.approx(cosine(0.01, 2), rel=1e-5)


def test_a_grid_of_peaks_compiles_once(dataset, monkeypatch):
    traced = []
    monkeypatch.setattr(devices, "train_epoch", lambda *args, **rest: traced.append(1) or train_epoch(*args, **rest))
    peaks = [0.001 * 2**power for power in range(6)]
    runs = [Run(0, (("learning_rate", peak),)) for peak in peaks]
    epochs = list(train_runs(scheduled("he"), dataset, runs, epochs=3, placement=Placement(side_by_side=2)))
    assert len(traced) == 1
    for run, peak in zip(runs, peaks, strict=True):
        found = [epoch.learning_rate for epoch in epochs if epoch.run == run]
        assert found == pytest.approx(cosine(peak, 3), rel=1e-5)


@pytest.mark.parametrize(("lesson_id", "side_by_side"), [("adam", 1), ("mlp", 8)])
def test_a_constant_schedule_changes_no_bit(dataset, lesson_id, side_by_side):
    runs, placement = [Run(seed) for seed in range(5)], Placement(side_by_side)
    plain = train_runs(NARROW[lesson_id], dataset, runs, epochs=2, placement=placement)
    constant = train_runs(scheduled(lesson_id, schedule("constant")), dataset, runs, epochs=2, placement=placement)
    found = [dataclasses.replace(epoch, learning_rate=None) for epoch in without_seconds(constant)]
    assert found == without_seconds(plain)


@pytest.mark.parametrize("name", ["adam", pytest.param("contrib.schedule_free_adamw", marks=pytest.mark.slow)])
def test_resumed_run_matches_uninterrupted_run(dataset, tmp_path, name):
    lesson = dataclasses.replace(NARROW["he"], optimizer=optimizer(name, 0.01, schedule=COSINE))

    def train(folder):
        return train_runs(lesson, dataset, [Run(3)], epochs=4, checkpoints=Checkpoints(tmp_path / folder))

    def end(folder):
        (group,) = (tmp_path / folder).iterdir()
        return last_checkpoint(group).arrays

    expected = list(train("whole"))
    for _ in zip(range(2), train("parts"), strict=False):
        pass
    assert without_seconds(train("parts")) == without_seconds(expected)
    assert_same(end("parts"), end("whole"))


def test_another_number_of_epochs_is_another_training(dataset, tmp_path):
    """The shorter run's checkpoint would have the rates of a shorter schedule."""
    checkpoints = Checkpoints(tmp_path)
    for epochs in (2, 3):
        found = list(train_runs(scheduled("mlp"), dataset, [Run(0)], epochs=epochs, checkpoints=checkpoints))
        assert [epoch.learning_rate for epoch in found] == pytest.approx(cosine(0.01, epochs), rel=1e-5)
    assert len(list(tmp_path.iterdir())) == 2


def test_float64_rates(dataset):
    with jax.enable_x64(True):
        (_, last) = train_runs(scheduled("mlp", schedule("cosine_decay"), dtype="float64"), dataset, [Run(0)], epochs=2)
    assert last.learning_rate == pytest.approx(0.01 * 0.5 * (1 + np.cos(np.pi * 5 / 6)), rel=1e-14)


def test_a_schedule_that_does_not_fit_is_refused_before_training(dataset):
    with pytest.raises(UserError, match="does not fit a run of 3 steps"):
        check_runs(scheduled("mlp"), dataset, [Run(0)], epochs=1)
    lesson = dataclasses.replace(NARROW["mlp"], optimizer=optimizer("prodigy", 1.0, schedule=COSINE))
    with pytest.raises(UserError, match="prodigy cannot begin at a learning rate of 0"):
        check_runs(lesson, dataset, [Run(0)], epochs=2)


def test_a_rate_that_is_not_finite_is_none_in_json(dataset):
    growing = schedule("exponential_decay", decay_rate=1e38, transition_steps=1)
    epochs = list(train_runs(scheduled("mlp", growing), dataset, [Run(0)], epochs=2))
    assert epochs[-1].diverged
    record = RunRecord.of_epochs(epochs)
    assert json.loads(json.dumps(record.to_json(), allow_nan=False))["learning_rates"] == [None]


def test_schedule_flag_reaches_results_json(run_main, toy_folder, tmp_path):
    options = ["--data", toy_folder, "--split", "notebooks", "--epochs", 3, "--hidden", 8]
    line = [*options, "--schedule", "warmup_cosine_decay", "warmup_epochs", 1, "--out", tmp_path / "run"]
    assert run_main(cli.main, "train", "adam", *line)[0] == 0
    results = json.loads((tmp_path / "run" / RESULTS).read_text())
    assert results["config"]["lessons"]["adam"]["optimizer"]["schedule"] == {
        "name": "warmup_cosine_decay",
        "numbers": [["warmup_epochs", 1.0]],
        "steps": None,
        "epochs": None,
    }
    rates = results["lessons"]["adam"]["learning_rates"]
    assert rates == [pytest.approx(cosine(0.01, 3), rel=1e-5)]
    status, _, err = run_main(cli.main, "train", "adam", *options, "--out", tmp_path / "run", "--resume")
    assert status == 2
    assert "schedule" in err
    (net,) = read_nets(tmp_path / "run")
    assert net.state.step == 9


def test_runs_without_schedule_are_recorded_as_before(run_main, toy_folder, tmp_path):
    line = ["--data", toy_folder, "--epochs", 1, "--hidden", 8, "--out", tmp_path / "run"]
    assert run_main(cli.main, "train", "mlp", *line)[0] == 0
    results = json.loads((tmp_path / "run" / RESULTS).read_text())
    assert "learning_rates" not in results["lessons"]["mlp"]
    assert set(results["config"]["lessons"]["mlp"]["optimizer"]) == {"name", "learning_rate", "hyperparameters"}
