"""Sizes of gradients and updates against steps taken one by one."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers.lessons import NARROW, TINY

from mnist_jax import Examples, init_state, optimizer, train_epoch
from mnist_jax.optimizers import schedule
from mnist_jax.studies import mechanism
from mnist_jax.studies.mechanism import follow
from mnist_jax.train import batch_loss, epoch_order


def with_optimizer(lesson, *words, **settings):
    return dataclasses.replace(lesson, optimizer=optimizer(*words, **settings))


def test_the_run_followed_is_the_run_trained(toy):
    lesson = NARROW["he"]
    state, measured = (init_state(lesson, jax.random.key(3)) for _ in range(2))
    for _ in range(2):
        state, _ = train_epoch(state, toy)
        measured, _ = mechanism._measured_epoch(measured, toy, toy.size)
    for one, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(measured.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_sizes_of_plain_sgd_follow_from_its_gradients(toy):
    """Its update is the rate times the gradient; three steps per epoch, the last one on 8 examples."""
    lesson, rate = with_optimizer(TINY, "sgd", 0.1), 0.1
    found = follow(lesson, toy, 0, epochs=1)
    assert found["steps"] == [1, 2, 3]
    assert list(found["layers"]) == ["fc1", "fc2"]
    state = init_state(lesson, jax.random.key(0))
    order = epoch_order(jax.random.fold_in(state.order_key, 0), toy.size, toy.size)
    params = state.params
    for step, (first, last) in enumerate([(0, 32), (32, 64), (64, 72)]):
        batch = Examples(*(part[order[first:last]] for part in toy))
        state = dataclasses.replace(state, step=np.int32(step))
        gradients, _ = jax.grad(batch_loss, has_aux=True)(params, state, batch)
        for layer, curves in found["layers"].items():
            gradient, weights = gradients[layer]["kernel"], params[layer]["kernel"]
            ratio = rate * np.linalg.norm(gradient) / np.linalg.norm(weights)
            assert curves["gradient"][step] == pytest.approx(float(np.mean(gradient**2)) ** 0.5, rel=1e-4)
            assert curves["update_to_weight"][step] == pytest.approx(float(ratio), rel=1e-3)
        params = jax.tree.map(lambda weight, gradient: weight - rate * gradient, params, gradients)


def test_adam_moves_every_weight_by_about_its_rate_at_first(toy):
    """The first step of Adam is the rate times the sign of the gradient."""
    found = follow(with_optimizer(NARROW["he"], "adam", 1e-3), toy, 0, epochs=1)
    params = init_state(NARROW["he"], jax.random.key(0)).params
    for layer in ("fc2", "fc3"):  # every pixel of some margin is 0, and so is its gradient
        kernel = params[layer]["kernel"]
        expected = 1e-3 * kernel.size**0.5 / float(np.linalg.norm(kernel))
        assert found["layers"][layer]["update_to_weight"][0] == pytest.approx(expected, rel=0.05)


def test_points_are_means_over_stretches_of_steps():
    values = np.arange(1, 11, dtype=np.float32)[:, None] * np.array([1, 10], np.float32)
    assert mechanism._stretches(values, np.array([1, 2, 4, 10])) == [[1, 2, 3.5, 7.5], [10, 20, 35, 75]]
    values[4, 0] = np.nan
    assert mechanism._stretches(values, np.array([1, 2, 4, 10])) == [[1, 2, 3.5, None], [10, 20, 35, 75]]


def test_a_long_run_has_few_points_and_ends_at_its_last_step(toy):
    found = follow(TINY, toy, 0, epochs=40)
    assert len(found["steps"]) <= mechanism.POINTS
    assert found["steps"][0] == 1
    assert found["steps"][-1] == 120


def test_a_schedule_is_that_of_the_whole_run(toy):
    """At the end of a cosine nothing moves any more."""
    lesson = with_optimizer(TINY, "sgd", 0.1, schedule=schedule("cosine_decay"))
    curve = follow(lesson, toy, 0, epochs=4)["layers"]["fc1"]["update_to_weight"]
    assert curve[-1] < 0.1 * max(curve)


def test_the_net_that_is_followed():
    assert mechanism.followed_net({"mlp": {}, "he": {}}) == "he"
    assert mechanism.followed_net({"relu": {}, "adam": {}}) == "relu"
