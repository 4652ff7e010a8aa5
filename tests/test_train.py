import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.lessons import TINY, each_lesson, first_and_last_quick
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_jax import (
    LESSONS,
    Examples,
    evaluate,
    init_state,
    logits,
    optimizer,
    predict,
    train_epoch,
    train_step,
)
from mnist_jax.train import cross_entropy, epoch_order, one_hot


def after_epochs(lesson, examples, *, seed=0, epochs=2, hyperparameters=None):
    state = init_state(lesson, jax.random.key(seed), hyperparameters)
    losses = []
    for _ in range(epochs):
        state, loss = train_epoch(state, examples)
        losses.append(loss)
    return state, jnp.stack(losses)


def test_one_hot_matches_the_slides():
    np.testing.assert_array_equal(
        one_hot(jnp.array([0, 1, 9])),
        [[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
    )


def test_loss_is_the_mean_cross_entropy():
    outputs = jnp.array([[2.0, *[0.0] * 9], [0.0] * 10])
    expected = (np.log(np.exp(2) + 9) - 2 + np.log(10)) / 2
    np.testing.assert_allclose(cross_entropy(outputs, jnp.array([0, 7])), expected, rtol=1e-6)


@each_lesson
def test_same_seed_is_bit_identical_and_others_differ(lesson, toy):
    first, second, other = (after_epochs(lesson, toy, seed=seed) for seed in (3, 3, 4))
    chex.assert_trees_all_equal(first, second)
    assert not np.array_equal(first[0].params["fc1"]["kernel"], other[0].params["fc1"]["kernel"])


@first_and_last_quick(LESSONS)
def test_an_epoch_is_traced_once(lesson, toy):
    chex.clear_trace_counter()
    counted = jax.jit(chex.assert_max_traces(train_epoch.__wrapped__, n=1))
    state = init_state(lesson, jax.random.key(0))
    for _ in range(3):
        state, _ = counted(state, toy)
    assert state.step == 9


@first_and_last_quick(LESSONS)
def test_tiny_set_is_memorised(lesson, toy):
    # Sigmoid nets need more than the lesson's 0.01 to learn 72 images in some hundred steps.
    rate = 0.01 if lesson.optimizer.name == "adam" else 0.3
    state = init_state(lesson, jax.random.key(0), {"learning_rate": rate})
    examples = jax.device_put(toy)
    before = evaluate(state, examples).loss
    for _ in range(12):
        state, _ = train_epoch(state, examples, length=32 * 100)
        after = evaluate(state, examples)
        if after.correct == toy.size and after.loss < before / 4:
            break
    assert after.correct == toy.size
    assert after.loss < before / 4


@each_lesson
def test_batch_statistics_change_only_in_training(lesson, toy):
    state = init_state(lesson, jax.random.key(0))
    before = jax.tree.map(np.asarray, state.batch_stats)
    evaluate(state, toy)
    logits(state, toy.images)
    chex.assert_trees_all_equal(state.batch_stats, before)
    state, _ = train_step(state, toy)
    for name, stats in before.items():
        assert not np.array_equal(state.batch_stats[name]["mean"], stats["mean"])
        assert not np.array_equal(state.batch_stats[name]["var"], stats["var"])


def test_running_averages_keep_nine_tenths(toy):
    state = init_state(LESSONS["batch_norm"], jax.random.key(0))
    dense = state.params["fc1"]
    activations = toy.images.reshape(72, 784) / np.float32(255) @ np.asarray(dense["kernel"]) + np.asarray(
        dense["bias"]
    )
    state, _ = train_step(state, toy)
    moved = state.batch_stats["batch_norm1"]
    np.testing.assert_allclose(moved["mean"], 0.1 * activations.mean(0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * activations.var(0), rtol=1e-4)


@first_and_last_quick(LESSONS)
def test_epoch_equals_its_single_steps(lesson, toy):
    whole, loss = train_epoch(init_state(lesson, jax.random.key(0)), toy)
    state = init_state(lesson, jax.random.key(0))
    order = epoch_order(jax.random.fold_in(state.order_key, 0), 72, 72)
    losses = []
    for part in (order[:32], order[32:64], order[64:]):
        state, step_loss = train_step(state, Examples(toy.images[part], toy.labels[part]))
        losses.append(step_loss * len(part))
    chex.assert_trees_all_close(whole.params, state.params, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, sum(losses) / 72, rtol=1e-5)
    assert whole.step == state.step == 3


@first_and_last_quick(LESSONS)
def test_vmap_over_seeds_equals_one_by_one(lesson, toy):
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    states = jax.vmap(functools.partial(init_state, lesson))(keys)
    for _ in range(2):
        states, losses = jax.vmap(train_epoch, in_axes=(0, None))(states, toy)
    metrics = jax.vmap(evaluate, in_axes=(0, None))(states, toy)
    for seed in range(3):
        state, alone = after_epochs(lesson, toy, seed=seed)
        # Not to the last bit: a batched matrix product adds up in another order.
        np.testing.assert_allclose(losses[seed], alone[-1], rtol=1e-3)
        np.testing.assert_allclose(metrics.loss[seed], evaluate(state, toy).loss, rtol=1e-2, atol=1e-4)
        assert jnp.array_equal(jax.random.key_data(states.dropout_key[seed]), jax.random.key_data(state.dropout_key))


@first_and_last_quick(LESSONS)
def test_vmap_over_learning_rates_equals_one_by_one(lesson, toy):
    rates = jnp.array([0.001, 0.01, 0.03])
    states = jax.vmap(lambda rate: init_state(lesson, jax.random.key(0), {"learning_rate": rate}))(rates)
    states, losses = jax.vmap(train_epoch, in_axes=(0, None))(states, toy)
    for number, rate in enumerate(rates):
        _, alone = after_epochs(lesson, toy, epochs=1, hyperparameters={"learning_rate": rate})
        np.testing.assert_allclose(losses[number], alone[0], rtol=1e-4)


def test_traced_learning_rate_is_bit_identical(toy):
    lesson = dataclasses.replace(LESSONS["he"], optimizer=optimizer("adam", 0.003))
    _, own = after_epochs(lesson, toy)
    _, traced = after_epochs(LESSONS["adam"], toy, hyperparameters={"learning_rate": 0.003})
    np.testing.assert_array_equal(own, traced)


def test_a_new_learning_rate_compiles_nothing(toy):
    chex.clear_trace_counter()
    counted = jax.jit(chex.assert_max_traces(train_epoch.__wrapped__, n=1))
    losses = {
        rate: float(counted(init_state(LESSONS["he"], jax.random.key(0), {"learning_rate": rate}), toy)[1])
        for rate in (0.001, 0.01, 0.1)
    }
    assert len(set(losses.values())) == 3


@settings(deadline=None, max_examples=12)
@given(n=st.integers(1, 40), length=st.integers(1, 130), seed=st.integers(0, 2**32 - 1))
def test_every_pass_of_an_order_uses_every_example_once(n, length, seed):
    order = np.asarray(epoch_order(jax.random.key(seed), n, length))
    assert order.shape == (length,)
    for start in range(0, length, n):
        part = order[start : start + n]
        assert len(set(part)) == len(part)
        assert set(part) <= set(range(n))


def test_each_pass_has_its_own_shuffle():
    passes = np.asarray(epoch_order(jax.random.key(0), 40, 120)).reshape(3, 40)
    assert len({tuple(order) for order in passes.tolist()}) == 3


def with_key(state, name):
    """The state with another key of this name."""
    return dataclasses.replace(state, **{name: jax.random.key(99)})


def test_order_and_dropout_use_separate_random_streams(toy):
    state = init_state(LESSONS["dropout"], jax.random.key(0))
    keys = (jax.random.key(0), state.order_key, state.dropout_key)
    assert len({jax.random.key_data(key).tobytes() for key in keys}) == 3
    for function, lesson_id, of_no_matter, that_counts in (
        (train_step, "dropout", "order_key", "dropout_key"),
        (train_epoch, "mlp", "dropout_key", "order_key"),
    ):
        plain, same, other = (init_state(LESSONS[lesson_id], jax.random.key(0)) for _ in range(3))
        loss = function(plain, toy)[1]
        assert function(with_key(same, of_no_matter), toy)[1] == loss
        assert function(with_key(other, that_counts), toy)[1] != loss


def test_epochs_differ_in_order_and_steps_in_masks(toy):
    state = init_state(LESSONS["dropout"], jax.random.key(0))
    orders = [epoch_order(jax.random.fold_in(state.order_key, step), 72, 72) for step in (0, 3)]
    assert not np.array_equal(*orders)
    frozen = {"learning_rate": 0.0}  # the weights stay, so only the masks differ
    state = init_state(LESSONS["dropout"], jax.random.key(0), frozen)
    state, first = train_step(state, toy)
    state, second = train_step(state, toy)
    assert first != second


def test_lessons_share_initial_weights_and_order_of_a_seed():
    states = {lesson_id: init_state(lesson, jax.random.key(5)) for lesson_id, lesson in LESSONS.items()}
    for lesson_id in ("dropout", "relu", "batch_norm"):
        chex.assert_trees_all_equal(states[lesson_id].params["fc2"], states["mlp"].params["fc2"])
    assert len({jax.random.key_data(state.order_key).tobytes() for state in states.values()}) == 1


@each_lesson
def test_evaluation_counts_every_image(lesson, toy):
    state, _ = after_epochs(lesson, toy)
    outputs = np.asarray(logits(state, toy.images), np.float64)
    answers = outputs.argmax(1)
    np.testing.assert_array_equal(predict(state, toy.images), answers)
    metrics = evaluate(state, toy)
    assert metrics.correct == (answers == toy.labels).sum()
    assert metrics.correct.dtype == np.int32
    chosen = outputs[np.arange(72), toy.labels]
    np.testing.assert_allclose(metrics.loss, (np.log(np.exp(outputs).sum(1)) - chosen).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "counts"),
    [(1_000, range(1_001)), (10_000, [0, 1, 9_499, 9_500, 9_501, 9_999, 10_000, *range(7, 9_999, 99)])],
)
def test_every_number_of_right_answers_is_counted_exactly(images, counts):
    state = init_state(TINY, jax.random.key(0))
    always_3 = {
        **jax.tree.map(jnp.zeros_like, state.params),
        "fc2": {"kernel": jnp.zeros((3, 10)), "bias": jnp.eye(10)[3]},
    }
    labels = np.where(np.arange(images) < np.array(counts)[:, None], 3, 7).astype(np.uint8)
    examples = Examples(np.zeros((images, 28, 28), np.uint8), labels)
    of_each = jax.vmap(evaluate, in_axes=(None, Examples(None, 0)))
    found = of_each(dataclasses.replace(state, params=always_3), examples).correct
    np.testing.assert_array_equal(found, counts)


def test_double_precision_where_jax_allows_it(toy):
    with jax.enable_x64(True):
        lesson = dataclasses.replace(LESSONS["adam"], dtype="float64")
        state, loss = train_step(init_state(lesson, jax.random.key(0)), toy)
        assert loss.dtype == jnp.float64
        assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))} == {jnp.dtype("float64")}
        assert logits(state, toy.images).dtype == jnp.float64


def test_hyperparameters_have_the_lesson_dtype():
    for dtype in ("float32", "float64"):
        with jax.enable_x64(True):
            lesson = dataclasses.replace(TINY, optimizer=optimizer("adam", 0.3), dtype=dtype)
            for value in (0.1, jnp.float64(0.1)):
                state = init_state(lesson, jax.random.key(0), {"learning_rate": value, "b1": 0.7})
                assert state.opt_state.hyperparams["learning_rate"].dtype == dtype
                assert float(state.opt_state.hyperparams["learning_rate"]) == np.dtype(dtype).type(0.1)
                assert float(state.opt_state.hyperparams["b1"]) == np.dtype(dtype).type(0.7)
