import dataclasses
import json

import pytest
from conftest import toy_digits

from mnist_jax import LESSONS, UserError, data, optimizer
from mnist_jax.experiment import record, train_lesson


@pytest.fixture
def dataset(toy):
    return data._split(data._arrays(toy, toy_digits(20, seed=1), "toy"), "folder", "slides")


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_a_record_has_a_number_for_every_seed_and_epoch(lesson, dataset):
    entry = record(train_lesson(lesson, dataset, seeds=[0, 3], epochs=2))
    assert entry["seeds"] == [0, 3]
    assert entry["diverged"] == [False, False]
    for name in ("test_accuracy", "test_loss", "train_loss", "validation_accuracy", "seconds"):
        assert [len(run) for run in entry[name]] == [2, 2]
        assert all(isinstance(value, float) for run in entry[name] for value in run)


def test_seeds_side_by_side_are_what_each_is_alone(dataset):
    both = record(train_lesson(LESSONS["dropout"], dataset, seeds=[1, 2], epochs=2))
    alone = record(train_lesson(LESSONS["dropout"], dataset, seeds=[2], epochs=2))
    for name in ("test_loss", "train_loss", "test_accuracy"):
        assert both[name][1] == alone[name][0]


def test_a_diverged_run_ends_and_says_so(dataset):
    lesson = dataclasses.replace(LESSONS["relu"], optimizer=optimizer("sgd", 1e30))
    entry = record(train_lesson(lesson, dataset, seeds=[0], epochs=5))
    assert entry["diverged"] == [True]
    assert entry["train_loss"] == [[None]]
    json.dumps(entry, allow_nan=False)


def test_without_validation_there_is_none(toy):
    whole = data._split(data._arrays(toy, toy, "toy"), "folder", "notebooks")
    assert record(train_lesson(LESSONS["mlp"], whole, seeds=[0], epochs=1))["validation_accuracy"] is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"seeds": []}, "At least one seed"),
        ({"seeds": [-1]}, "Seeds must be"),
        ({"lesson": dataclasses.replace(LESSONS["mlp"], batch_size=66)}, "batch of 66 is larger than the 65"),
    ],
)
def test_what_cannot_run_is_refused_before_it_starts(dataset, change, says):
    arguments = {"lesson": LESSONS["mlp"], "seeds": [0], "epochs": 1, **change}
    with pytest.raises(UserError, match=says):
        train_lesson(arguments.pop("lesson"), dataset, **arguments)
