import contextlib
import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax import LESSONS, UserError, init_state, optimizer, schedule
from mnist_jax.lessons import (
    ACTIVATIONS,
    ADAM,
    DTYPES,
    INITIALISATIONS,
    MLP,
    Lesson,
    changes,
    for_run,
    lesson_by_id,
    lesson_of_json,
    lesson_to_json,
    what_changed,
)
from mnist_jax.optimizers import OPTIMIZERS, Optimizer, Schedule, Transformation, hyperparameter_names

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


def test_first_lesson_matches_the_notebook():
    assert lesson_to_json(MLP) == {
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
        ("hidden", (0,), "at least 1 unit"),
        ("hidden", (-3,), "at least 1 unit"),
        ("hidden", (2,) * 21, "at most 20 hidden layers"),
        ("hidden", [512, 256], "tuple of Python ints"),
        ("hidden", 512, "tuple of Python ints"),
        ("hidden", (512.5, 256), "tuple of Python ints"),
        ("hidden", (512.0,), "tuple of Python ints"),
        ("hidden", (np.int64(5),), r"tuple of Python ints, not \(np.int64\(5\),\)"),
        ("hidden", (True,), "tuple of Python ints"),
        ("hidden", ("512",), "tuple of Python ints"),
        ("hidden", (2**31 - 1, 2**31 - 1), "more than 100,000,000 parameters"),
        ("hidden", (2**31,), "more than 100,000,000 parameters"),
        ("hidden", (10**400,), "more than 100,000,000 parameters"),
        ("hidden", (10_000, 10_000), "more than 100,000,000 parameters"),
        ("activation", "swish", "sigmoid, relu"),
        ("activation", None, "sigmoid, relu"),
        ("activation", ["relu"], "sigmoid, relu"),
        ("dropout_rate", 1.0, "below 1"),
        ("dropout_rate", float("nan"), "below 1"),
        ("dropout_rate", -0.1, "at least 0"),
        ("dropout_rate", False, "at least 0"),
        ("dropout_rate", "0.5", "at least 0"),
        ("dropout_rate", np.float32(0.5), "Python number of at least 0"),
        ("batch_norm", 1, "True or False"),
        ("batch_norm", [1], "True or False"),
        ("batch_norm", None, "True or False"),
        ("optimizer", "adam", "must be an Optimizer"),
        ("initialisation", "xavier", "pytorch, he"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", 32.0, "a whole number of at least 1, not 32.0"),
        ("batch_size", True, "whole number"),
        ("batch_size", np.int64(32), "Python int of at least 1"),
        ("batch_size", "32", "whole number"),
        ("batch_size", 10**9, "activations"),
        ("batch_size", 10**400, "activations"),
        ("dtype", "int8", "float32"),
    ],
)
def test_a_field_out_of_range_is_refused(field, value, says):
    with pytest.raises(UserError, match=says):
        dataclasses.replace(ADAM, **{field: value})


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_parameters_are_counted_without_allocation(lesson_id):
    for hidden in ((512, 256), (3,), (), (7, 1, 5)):
        lesson = dataclasses.replace(LESSONS[lesson_id], hidden=hidden)
        made = jax.eval_shape(functools.partial(init_state, lesson), jax.random.key(0)).params
        assert lesson.parameters == sum(leaf.size for leaf in jax.tree.leaves(made))


SGD = {"name": "sgd", "learning_rate": 0.1, "hyperparameters": []}
CONSTANT = {"name": "constant", "numbers": [], "steps": None, "epochs": None}


def as_json(lesson):
    return json.loads(json.dumps(lesson_to_json(lesson)))


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_lesson_json_round_trip(lesson_id):
    lesson = dataclasses.replace(LESSONS[lesson_id], hidden=(5, 4), dtype="float64")
    assert lesson_of_json(as_json(lesson)) == lesson


def test_a_lesson_is_read_without_looking_up_its_optimizer():
    chain = (Transformation("cut", (("at", 2.0), ("off", None))), Transformation("turn"))
    named = Optimizer("mine:made", 0.1, (("fast", True), ("gain", 2.0)), Schedule("wave", (("ups", 3.0),)), chain)
    lesson = dataclasses.replace(ADAM, optimizer=named)
    assert lesson_of_json(as_json(lesson)) == lesson


def test_schedule_and_chain_round_trip():
    chosen = optimizer("adam", 0.01, schedule=schedule("exponential_decay", decay_rate=0.1, staircase=True))
    chosen = dataclasses.replace(chosen, chain=(Transformation("clip_by_global_norm", (("max_norm", 1.0),)),))
    lesson = dataclasses.replace(ADAM, optimizer=chosen)
    assert lesson_of_json(as_json(lesson)) == lesson
    known = for_run(lesson, steps_per_epoch=10, epochs=2)
    assert lesson_of_json(as_json(known)) == known != lesson


def test_lesson_without_schedule_and_chain_is_written_as_before():
    assert set(as_json(ADAM)["optimizer"]) == {"name", "learning_rate", "hyperparameters"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"hidden": [2**31 - 1, 2**31 - 1]}, "parameters"),
        ({"hidden": [512.5, 256]}, "Python ints"),
        ({"hidden": {"512": 1}}, "Python ints"),
        ({"hidden": "512"}, "Python ints"),
        ({"hidden": None}, "Python ints"),
        ({"hidden": [[512]]}, "Python ints"),
        ({"batch_norm": [1]}, "True or False"),
        ({"batch_size": "32"}, "whole number"),
        ({"dropout_rate": None}, "dropout rate"),
        ({"activation": {}}, "activation"),
        ({"another": 1}, "not one that this version"),
        ({"optimizer": None}, "not one that this version"),
        ({"optimizer": {}}, "not one that this version"),
        ({"optimizer": {"name": "sgd", "learning_rate": True, "hyperparameters": []}}, "learning rate"),
        ({"optimizer": {"name": "sgd", "learning_rate": "1", "hyperparameters": []}}, "learning rate"),
        ({"optimizer": {**SGD, "schedule": []}}, "not one that this version"),
        ({"optimizer": {**SGD, "schedule": {"name": "constant"}}}, "not one that this version"),
        ({"optimizer": {**SGD, "schedule": {**CONSTANT, "steps": 0}}}, "whole numbers from 1"),
        ({"optimizer": {**SGD, "schedule": {**CONSTANT, "numbers": [3]}}}, "pairs"),
        ({"optimizer": {**SGD, "chain": [3]}}, "not one that this version"),
        ({"optimizer": {**SGD, "chain": "clip"}}, "must be a tuple of Transformations, not 'clip'"),
        ({"optimizer": {**SGD, "chain": [{"name": 7, "arguments": []}]}}, "must be a str"),
        ({"optimizer": {"name": ["sgd"], "learning_rate": 1, "hyperparameters": []}}, "optimizer"),
        ({"optimizer": {"name": "sgd", "learning_rate": 1, "hyperparameters": 7}}, "pairs"),
        ({"optimizer": {"name": "sgd", "learning_rate": 1, "hyperparameters": ["ab", 7]}}, "pairs"),
        ({"optimizer": {"name": "sgd", "learning_rate": 1, "hyperparameters": [["momentum"]]}}, "pairs"),
        ({"optimizer": {"name": "sgd", "learning_rate": 1, "hyperparameters": [["momentum", []]]}}, "momentum"),
        ({"optimizer": {"name": "sgd", "learning_rate": 1, "hyperparameters": [[[], 1]]}}, "pairs"),
        ({"optimizer": {"name": "adam", "learning_rate": 1, "hyperparameters": [["b2", 0.9], ["b1", 0]]}}, "order"),
        ({"optimizer": {"name": "adam", "learning_rate": 1, "hyperparameters": [["b1", 0.9], ["b1", 0]]}}, "once"),
    ],
)
def test_json_of_an_invalid_lesson_is_refused(changed, says):
    with pytest.raises(UserError, match=says):
        lesson_of_json({**as_json(ADAM), **changed})


@pytest.mark.parametrize("values", [None, 7, [], "lesson", {}, {"hidden": [3]}])
def test_json_of_the_wrong_type_is_refused(values):
    with pytest.raises(UserError, match="not one that this version"):
        lesson_of_json(values)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), base=st.sampled_from(list(LESSONS.values())))
def test_any_json_is_a_lesson_or_refused(data, base):
    values = as_json(base)
    part = data.draw(st.sampled_from([values, values["optimizer"]]))
    for name in data.draw(st.lists(st.sampled_from(sorted(part)), max_size=2)):
        part[name] = data.draw(JSON)
    with contextlib.suppress(UserError):
        lesson = lesson_of_json(values)
        assert lesson in {lesson}
        assert lesson_of_json(as_json(lesson)) == lesson


def test_unknown_lesson_lists_the_valid_ones():
    with pytest.raises(UserError, match=r"'cnn'.*mlp, dropout, relu, batch_norm, he, adam"):
        lesson_by_id("cnn")
    assert isinstance(lesson_by_id("he"), Lesson)


# --- any values of the right types; fuzz.py tries the same ---

HYPERPARAMETERS = sorted({key for name in OPTIMIZERS for key in hyperparameter_names(name)})


def made_or_refused(base, fields, optimizer_arguments):
    """Whether `base` can be made with these fields, and with this optimizer unless it is None.

    If so, it must be right; otherwise it must be refused with a message.
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
    assert all(isinstance(width, int) and width >= 1 for width in lesson.hidden)
    assert lesson.parameters <= 100_000_000
    assert lesson.batch_size * sum(lesson.hidden) <= 2**28
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
        assert isinstance(number, int | float | str | None)
        assert not isinstance(number, int | float) or 0 <= number < 2**128
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
def test_any_fields_make_a_lesson_or_are_refused(base, fields, optimizer_arguments):
    made_or_refused(base, fields, optimizer_arguments)
