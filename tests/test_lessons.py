import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_jax import LESSONS, UserError, optimizer
from mnist_jax.lessons import (
    ACTIVATIONS,
    ADAM,
    DTYPES,
    INITIALISATIONS,
    MLP,
    Lesson,
    changes,
    lesson_by_id,
    what_changed,
)
from mnist_jax.optimizers import OPTIMIZERS, Optimizer, hyperparameter_names

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


# --- any values of the right types; fuzz.py tries the same ---

HYPERPARAMETERS = sorted({key for name in OPTIMIZERS for key in hyperparameter_names(name)})


def made_or_refused(base, fields, optimizer_arguments):
    """Whether `base` can be made with these fields, and with this optimizer unless it is None.

    If so it must be right, else refused with one sentence.
    """
    refused = None
    try:
        if optimizer_arguments is not None:
            name, rate, numbers = optimizer_arguments
            fields = {"optimizer": optimizer(name, rate, **numbers), **fields}
        lesson = dataclasses.replace(base, **fields)
    except UserError as error:
        refused = str(error)
    if refused is not None:
        assert len(refused.splitlines()) == 1
        return False
    assert lesson in {lesson}
    assert isinstance(lesson.hidden, tuple)
    assert all(isinstance(width, int) and 1 <= width < 2**31 for width in lesson.hidden)
    assert isinstance(lesson.dropout_rate, int | float)
    assert 0 <= lesson.dropout_rate < 1
    assert isinstance(lesson.batch_norm, bool)
    assert isinstance(lesson.batch_size, int)
    assert lesson.batch_size >= 1 + lesson.batch_norm
    assert lesson.activation in ACTIVATIONS
    assert lesson.initialisation in INITIALISATIONS
    assert lesson.dtype in DTYPES
    assert isinstance(lesson.optimizer, Optimizer)
    for number in (lesson.optimizer.learning_rate, *dict(lesson.optimizer.hyperparameters).values()):
        assert isinstance(number, int | float)
        assert 0 <= number < 2**128
    assert str(lesson.optimizer)
    return True


INTEGERS = st.integers(-1, 3) | st.integers() | st.sampled_from([2**31 - 1, 2**31, 2**63, 10**400])
NUMBERS = st.floats(0, 1) | st.floats()
WORDS = st.text(max_size=9)
FIELDS = {
    "hidden": st.lists(st.integers(1, 99) | INTEGERS, max_size=3).map(tuple),
    "activation": st.sampled_from(ACTIVATIONS) | WORDS,
    "dropout_rate": NUMBERS,
    "batch_norm": st.booleans(),
    "initialisation": st.sampled_from(INITIALISATIONS) | WORDS,
    "batch_size": st.integers(0, 100) | INTEGERS,
    "dtype": st.sampled_from(DTYPES) | WORDS,
}


@settings(deadline=None, max_examples=400)
@given(
    base=st.sampled_from(list(LESSONS.values())),
    fields=st.fixed_dictionaries({}, optional=FIELDS),
    optimizer_arguments=st.none()
    | st.tuples(
        st.sampled_from(list(OPTIMIZERS)) | WORDS,
        NUMBERS,
        st.dictionaries(st.sampled_from(HYPERPARAMETERS) | WORDS, NUMBERS, max_size=3),
    ),
)
def test_any_fields_make_a_lesson_or_a_sentence(base, fields, optimizer_arguments):
    made_or_refused(base, fields, optimizer_arguments)
