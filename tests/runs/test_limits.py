"""Runs that fit in memory, and what is refused before it starts."""

import dataclasses
import math

import numpy as np
import pytest

from mnist_jax import LESSONS, Examples, UserError
from mnist_jax.runs import devices
from mnist_jax.runs.devices import Placement, Trainer, most_side_by_side
from mnist_jax.runs.loop import check_runs, train_runs
from mnist_jax.runs.records import Run, runs_of_seeds


@pytest.mark.parametrize(
    ("devices_per_run", "hidden", "error"),
    [
        (3, (512,), "4 devices cannot be split into groups of 3"),
        (0, (512,), "groups of 0"),
        (4, (30, 8), "Layers of 30 hidden units cannot be split evenly over 4 devices"),
        (2, (30, 8, 5), "Layers of 30 and 5 hidden units"),
        (2, (), "Layers of no hidden units"),
    ],
)
def test_indivisible_device_counts_are_refused(dataset, devices_per_run, hidden, error):
    lesson = dataclasses.replace(LESSONS["mlp"], hidden=hidden)
    with pytest.raises(UserError, match=error):
        train_runs(lesson, dataset, [Run(0)], placement=Placement(devices_per_run=devices_per_run))


@pytest.mark.parametrize(
    ("runs", "rest", "error"),
    [
        ([Run(0, (("b1", 0.5),))], {}, "b1"),
        *(([Run(0, (("learning_rate", rate),))], {}, "learning rate") for rate in (math.nan, -1.0, 0.0, "x", 1e39)),
        ([Run(0, (("learning_rate", 0.1), ("momentum", 1.0)))], {}, "momentum must be"),
        ([Run(0), Run(1, (("momentum", math.inf),))], {}, "momentum must be"),
        ([Run(0.5)], {}, "Seeds must be whole numbers"),
        ([Run(0)], {"placement": Placement(0)}, "At least 1 run per device"),
        ([Run(0), Run(1, (("learning_rate", 0.1),))], {}, "same hyperparameters"),
    ],
)
def test_invalid_runs_are_refused(dataset, runs, rest, error):
    with pytest.raises(ValueError, match=error):
        train_runs(LESSONS["mlp"], dataset, runs, epochs=1, **rest)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"seeds": []}, "seeds must be 1 to"),
        ({"seeds": range(10**9)}, "seeds must be 1 to 10,000"),
        ({"seeds": [-1]}, "Seeds must be"),
        ({"seeds": [0.5]}, "Seeds must be whole numbers"),
        ({"lesson": dataclasses.replace(LESSONS["mlp"], batch_size=67)}, "batch of 67 is larger than the 66"),
        ({"lesson": dataclasses.replace(LESSONS["he"], batch_size=13)}, "66 examples in batches of 13 leave one over"),
        ({"lesson": dataclasses.replace(LESSONS["adam"], batch_size=5)}, "choose another batch size, such as 6"),
        ({"epochs": 2**31 // 3 + 1}, "at most 2,147,483,647 steps"),
        ({"epochs": 9 * 10**4299}, "at most 2,147,483,647 steps"),
    ],
)
def test_invalid_training_is_refused_before_it_starts(dataset, change, says):
    arguments = {"lesson": LESSONS["mlp"], "seeds": [0], "epochs": 1, **change}
    with pytest.raises(UserError, match=says):
        train_runs(arguments["lesson"], dataset, runs_of_seeds(arguments["seeds"]), epochs=arguments["epochs"])


def test_empty_list_of_runs_is_refused(dataset):
    with pytest.raises(UserError, match="At least one run is needed"):
        train_runs(LESSONS["mlp"], dataset, [], epochs=1)


def sized(dataset, **sizes):
    """The data set as if its splits had these sizes."""
    examples = {
        name: Examples(np.broadcast_to(np.uint8(0), (size, 28, 28)), np.broadcast_to(np.uint8(0), size))
        for name, size in sizes.items()
    }
    return dataclasses.replace(dataset, **examples)


@pytest.mark.parametrize("side_by_side", [1_000, 10**6, 10**400])
def test_more_runs_side_by_side_than_fit_are_refused(dataset, side_by_side):
    # 10,000 nets of lesson he on 10,000 images would take 600 GB of activations.
    mnist, many = sized(dataset, train=60_000, test=10_000), range(10_000)
    with pytest.raises(UserError, match="At most 241 runs of this net fit"):
        check_runs(LESSONS["he"], mnist, runs_of_seeds(many), epochs=1, placement=Placement(side_by_side))
    check_runs(LESSONS["he"], mnist, runs_of_seeds(many), epochs=1, placement=Placement(241))
    check_runs(LESSONS["he"], mnist, runs_of_seeds(range(241)), epochs=1, placement=Placement(side_by_side))
    check_runs(LESSONS["he"], mnist, runs_of_seeds(many), epochs=1)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_group_width_limit_counts_weights_batch_and_evaluation(dataset, split):
    mnist = sized(dataset, **{split: 10_000})
    large = dataclasses.replace(LESSONS["he"], hidden=(100_000, 200))
    deep = dataclasses.replace(LESSONS["he"], batch_size=100_000)
    assert [most_side_by_side(lesson, mnist) for lesson in (LESSONS["he"], large, deep)] == [241, 3, 27]


def test_default_group_width_fits_memory(dataset, one_device, monkeypatch):
    one_device()
    monkeypatch.setattr(devices, "SIDE_BY_SIDE", {"cpu": 32})
    runs = [Run(seed) for seed in range(40)]
    assert Trainer(LESSONS["mlp"], dataset, runs).width == 32
    each = 4 * LESSONS["mlp"].parameters + 32 * LESSONS["mlp"].activations
    for numbers, width in ((each * 5, 5), (each * 6 - 1, 5), (each - 1, 1)):
        monkeypatch.setattr(devices, "MOST_BYTES", 4 * numbers)
        assert Trainer(LESSONS["mlp"], dataset, runs).width == width


class Device:
    """A device with this many bytes; None if it does not report them."""

    def __init__(self, limit):
        self.limit = limit

    def memory_stats(self):
        return None if self.limit is None else {"bytes_in_use": 1, "bytes_limit": self.limit}


@pytest.mark.parametrize(("limit", "most"), [(None, 241), (2**33, 120), (2**36, 966)])
def test_limit_is_the_one_that_the_device_reports(dataset, monkeypatch, limit, most):
    monkeypatch.setattr("jax.local_devices", lambda: [Device(limit)])
    mnist = sized(dataset, test=10_000)
    assert most_side_by_side(LESSONS["he"], mnist) == most
    double = dataclasses.replace(LESSONS["he"], dtype="float64")
    assert most_side_by_side(double, mnist) == most // 2


def test_planned_memory_is_that_of_training_or_of_a_large_evaluation(dataset, one_device):
    one_device()
    lesson = dataclasses.replace(LESSONS["mlp"], hidden=(8, 4))

    def memory(count, data):
        runs = [Run(seed) for seed in range(count)]
        trainer = Trainer(lesson, data, runs, Placement(count))
        trainer.compile(states := trainer.start(runs))
        return trainer.memory(states)

    def times(number, examples):
        return Examples(*(np.repeat(array, number, axis=0) for array in examples))

    least, images = memory(2, dataset), 28 * 28
    assert memory(8, dataset) >= least + 6 * 2 * 4 * lesson.parameters  # momentum too
    assert memory(2, dataclasses.replace(dataset, train=times(101, dataset.train))) >= 101 * 66 * images
    # As uint8, and, of two runs, the largest activations.
    evaluated = 10_000 * (images + 2 * 4 * 8)
    assert memory(2, dataclasses.replace(dataset, test=times(501, dataset.test))) >= least + evaluated


@pytest.mark.parametrize("split", ["test", "validation"])
def test_net_too_large_for_evaluation_is_refused(dataset, split, monkeypatch):
    lesson = dataclasses.replace(LESSONS["mlp"], hidden=(3,))
    monkeypatch.setattr("mnist_jax.lessons.MOST_ACTIVATIONS", 100 * lesson.activations)
    check_runs(lesson, sized(dataset, **{split: 100}), runs_of_seeds([0]), epochs=1)
    with pytest.raises(UserError, match="cannot be applied to 101 images at once"):
        check_runs(lesson, sized(dataset, **{split: 101}), runs_of_seeds([0]), epochs=1)
