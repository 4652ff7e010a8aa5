import dataclasses

import pytest

from mnist_jax import LESSONS, UserError, optimizer
from mnist_jax.lessons import ADAM, MLP, Lesson, changes, lesson_by_id, what_changed

IDS = ["mlp", "dropout", "relu", "batch_norm", "he", "adam"]


def test_six_lessons_in_the_order_of_the_course():
    assert list(LESSONS) == IDS


@pytest.mark.parametrize(
    ("lesson_id", "field", "value"),
    [
        ("dropout", "dropout_rate", 0.5),
        ("relu", "activation", "relu"),
        ("batch_norm", "batch_norm", True),
        ("he", "initialisation", "he"),
        ("adam", "optimizer", optimizer("adam", 0.01)),
    ],
)
def test_each_lesson_changes_one_thing(lesson_id, field, value):
    before = LESSONS[IDS[IDS.index(lesson_id) - 1]]
    assert changes(LESSONS[lesson_id], before) == {field: (getattr(before, field), value)}
    assert field in what_changed(lesson_id)


def test_the_first_lesson_is_the_notebook_s():
    assert dataclasses.asdict(MLP) == {
        "hidden": (512, 256),
        "activation": "sigmoid",
        "dropout_rate": 0.0,
        "batch_norm": False,
        "initialisation": "pytorch",
        "optimizer": {"name": "sgd", "learning_rate": 0.01, "hyperparameters": (("momentum", 0.5),)},
        "batch_size": 32,
        "dtype": "float32",
    }


def test_lessons_are_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ADAM.batch_size = 1
    assert len({*LESSONS.values(), dataclasses.replace(ADAM)}) == 6


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("hidden", (0,), "must be 1 to"),
        ("hidden", (2**31,), "must be 1 to"),
        ("activation", "swish", "sigmoid, relu"),
        ("dropout_rate", 1.0, "below 1"),
        ("dropout_rate", float("nan"), "below 1"),
        ("dropout_rate", -0.1, "at least 0"),
        ("initialisation", "xavier", "pytorch, he"),
        ("batch_size", 0, "at least 1"),
        ("dtype", "int8", "float32"),
    ],
)
def test_a_field_out_of_range_is_refused(field, value, says):
    with pytest.raises(UserError, match=says):
        dataclasses.replace(ADAM, **{field: value})


def test_an_unknown_lesson_lists_the_known():
    with pytest.raises(UserError, match=r"'cnn'.*mlp, dropout, relu, batch_norm, he, adam"):
        lesson_by_id("cnn")
    assert isinstance(lesson_by_id("he"), Lesson)
