"""What training and evaluation refuse, and what they take."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import toy_digits
from helpers.lessons import TINY, each_lesson

from mnist_jax import (
    LESSONS,
    Examples,
    UserError,
    evaluate,
    init_state,
    logits,
    predict,
    train_epoch,
    train_step,
)
from mnist_jax.train import train_epoch_with_tests

IMAGES, LABELS = np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8)
WRONG_IMAGES = {
    "floats in [0, 1]": IMAGES.astype(np.float32),
    "booleans": IMAGES.astype(bool),
    "wider integers": IMAGES.astype(np.int32),
    "signed bytes": IMAGES.astype(np.int8),
    "flat": IMAGES.reshape(4, 784),
    "with a channel": IMAGES[..., None],
    "one without a batch": IMAGES[0],
    "another size": np.zeros((4, 32, 32), np.uint8),
}
WRONG_LABELS = {
    "floats": LABELS.astype(np.float32),
    "booleans": LABELS.astype(bool),
    "one too many": np.zeros(5, np.uint8),
    "one-hot": np.zeros((4, 10), np.uint8),
}
WRONG = {
    **{f"images: {name}": Examples(images, LABELS[: len(images)]) for name, images in WRONG_IMAGES.items()},
    **{f"labels: {name}": Examples(IMAGES, labels) for name, labels in WRONG_LABELS.items()},
    "none": Examples(IMAGES[:0], LABELS[:0]),
}


def trained_with_tests(state, examples):
    return train_epoch_with_tests(state, examples, Examples(IMAGES, LABELS), every=1)


def trained_testing_on(state, examples):
    return train_epoch_with_tests(state, Examples(IMAGES, LABELS), examples, every=1)


@pytest.mark.parametrize("examples", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("function", [train_step, train_epoch, trained_with_tests, trained_testing_on, evaluate])
def test_wrong_shapes_and_dtypes_are_refused_when_traced(function, examples):
    with pytest.raises(UserError, match=r"Images must be uint8|Labels of 4 images|At least one example"):
        function(init_state(TINY, jax.random.key(0)), examples)


@pytest.mark.parametrize("images", WRONG_IMAGES.values(), ids=WRONG_IMAGES)
@pytest.mark.parametrize("function", [predict, logits])
def test_wrong_image_shape_or_dtype_is_refused_in_evaluation(function, images):
    state = init_state(TINY, jax.random.key(0))
    for form in (images, jnp.asarray(images), jax.ShapeDtypeStruct(images.shape, images.dtype)):
        with pytest.raises(UserError, match="Images must be uint8"):
            jax.eval_shape(function, state, form)
    with pytest.raises(UserError, match="Images must be uint8"):
        jax.vmap(function, in_axes=(None, 0))(state, images[None])
    assert function(state, IMAGES[:0]).shape[0] == 0


@pytest.mark.parametrize("key", [0, jax.random.PRNGKey(0), jax.random.split(jax.random.key(0), 2)])
def test_another_kind_of_key_is_refused(key):
    with pytest.raises(UserError, match=r"jax.random.key\(seed\)"):
        init_state(TINY, key)


@pytest.mark.parametrize(("function", "length"), [(train_epoch, 0), (train_epoch, -3)])
def test_empty_epoch_is_refused(function, length, toy):
    with pytest.raises(UserError, match="at least 1 example"):
        function(init_state(TINY, jax.random.key(0)), toy, length)
    with pytest.raises(UserError, match="At least 1 step"):
        train_epoch_with_tests(init_state(TINY, jax.random.key(0)), toy, toy, every=length)


# --- batch norm and a single example ---


@pytest.mark.parametrize("lesson_id", LESSONS)
@pytest.mark.parametrize(
    ("size", "length", "batch_size", "says"),
    [
        (65, None, 32, "65 examples in batches of 32 leave one over; choose another batch size, such as 33"),
        (72, 57, 8, "57 examples in batches of 8 leave one over; choose another batch size, such as 9"),
        (40, 3, 2, "3 examples in batches of 2 leave one over; choose another batch size, such as 3"),
        (72, 1, 32, "batches of at least 2"),
        (1, None, 2, "batches of at least 2"),
    ],
)
def test_batch_norm_refuses_a_last_batch_of_one(lesson_id, size, length, batch_size, says):
    lesson = dataclasses.replace(LESSONS[lesson_id], hidden=(3,), batch_size=batch_size)
    examples = toy_digits(size)
    state = jax.eval_shape(functools.partial(init_state, lesson), jax.random.key(0))
    for function in (train_epoch, functools.partial(train_epoch_with_tests, test=toy_digits(2), every=2)):
        with pytest.raises(UserError, match=says) if lesson.batch_norm else contextlib.nullcontext():
            jax.eval_shape(functools.partial(function, length=length), state, examples)


@each_lesson
def test_batch_norm_refuses_a_batch_of_one(lesson):
    one = toy_digits(1)
    one_each = jax.tree.map(lambda array: array[None], one)
    state = jax.eval_shape(functools.partial(init_state, lesson), jax.random.key(0))
    assert jax.eval_shape(logits, state, one.images).shape == (1, 10)  # used it may be, on one image
    for function, batch in ((train_step, one), (jax.vmap(train_step, in_axes=(None, 0)), one_each)):
        with pytest.raises(UserError, match="at least 2") if lesson.batch_norm else contextlib.nullcontext():
            jax.eval_shape(function, state, batch)


@pytest.mark.parametrize("lesson_id", ["batch_norm", "he", "adam"])
@pytest.mark.parametrize(("size", "batch_size"), [(64, 32), (66, 32), (2, 32), (2, 2), (65, 65)])
def test_other_lengths_train(lesson_id, size, batch_size):
    lesson = dataclasses.replace(LESSONS[lesson_id], hidden=(3,), batch_size=batch_size)
    state = jax.eval_shape(functools.partial(init_state, lesson), jax.random.key(0))
    jax.eval_shape(train_epoch, state, toy_digits(size))


def test_a_hyperparameter_the_lesson_lacks_is_refused():
    with pytest.raises(UserError, match="b1"):
        init_state(LESSONS["mlp"], jax.random.key(0), {"b1": 0.5})


def test_double_precision_is_refused_where_jax_would_drop_it():
    with pytest.raises(UserError, match="enable_x64"):
        init_state(dataclasses.replace(LESSONS["adam"], dtype="float64"), jax.random.key(0))
