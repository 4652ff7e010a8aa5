"""Custom optimizers, by name."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import LESSONS, OPTIMIZERS, UserError, init_state, optimizer, train_step
from mnist_jax.optimizers import hyperparameter_names, register
from mnist_jax.train import batch_loss

PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
GRADS = jax.tree.map(lambda p: 0.1 * p + 0.3, PARAMS)


@pytest.fixture
def registered(monkeypatch):
    """Register an optimizer for the time of a test."""

    def make_known(name, factory):
        monkeypatch.setitem(OPTIMIZERS, name, None)
        register(name, factory)

    return make_known


def halving(learning_rate, *, gain: float = 1.0, plain: bool = False):
    return optax.sgd(learning_rate * gain * (1 if plain else 0.5))


def test_custom_optimizer_is_registered(registered):
    registered("halving", halving)
    assert hyperparameter_names("halving") == ["gain", "plain"]
    for chosen, factor in (
        (optimizer("halving", 0.1), 0.05),
        (optimizer("halving", 0.1, gain=3.0), 0.15),
        (optimizer("halving", 0.1, plain=True), 0.1),
    ):
        made = chosen.transformation()
        updates, _ = made.update(GRADS, made.init(PARAMS), PARAMS)
        chex.assert_trees_all_close(updates, jax.tree.map(lambda g, by=factor: -by * g, GRADS), rtol=1e-6)


def test_custom_optimizer_may_take_any_keywords(registered, toy):
    registered("passing", lambda learning_rate, **others: optax.sgd(learning_rate, **others))
    lesson = dataclasses.replace(LESSONS["mlp"], hidden=(3,), optimizer=optimizer("passing", 0.1))
    state, _ = train_step(init_state(lesson, jax.random.key(0)), toy)
    assert int(state.step) == 1


def test_a_name_registered_again_is_compiled_again(registered, toy):
    lesson = dataclasses.replace(LESSONS["relu"], hidden=(3,))
    steps = []
    for gain in (1.0, 3.0):
        registered("own", lambda learning_rate, gain=gain: optax.sgd(learning_rate * gain))
        state = init_state(dataclasses.replace(lesson, optimizer=optimizer("own", 0.1)), jax.random.key(0))
        before = np.array(state.params["fc1"]["bias"])
        steps.append(train_step(state, toy)[0].params["fc1"]["bias"] - before)
    np.testing.assert_allclose(steps[1], 3 * steps[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "factory", "says"),
    [
        ("sgd", halving, "optax has a sgd of its own"),
        ("muon", halving, "optax has a muon of its own"),
        ("own", lambda rate: optax.sgd(rate), "first argument of own must be called learning_rate"),
        ("own", 3, "first argument"),
        (3, halving, "must be a word, not 3"),
        ("", halving, "must be a word, not ''"),
        ("own", dict, "first argument"),  # whose arguments Python does not know
        ("own", lambda learning_rate, inner: inner, "own needs inner; give it a default, or annotate it"),
    ],
)
def test_only_optimizers_can_be_registered(name, factory, says):
    with pytest.raises(UserError, match=says):
        register(name, factory)


def test_factory_without_transformation_is_refused_when_called(registered):
    registered("own", lambda learning_rate: learning_rate)
    with pytest.raises(UserError, match=r"must return an optax.GradientTransformation, not .*0.1"):
        optimizer("own", 0.1).transformation().init(PARAMS)


def test_update_gets_the_loss_of_the_step_s_own_batch_with_its_dropout(registered, toy):
    """Seen by an optimizer that keeps what it is given."""

    def keeping(learning_rate):
        def update(updates, state, params, *, value, grad, value_fn, obj_fn):
            del state
            again, gradients = jax.value_and_grad(value_fn)(params)
            return updates, (value, again, obj_fn(params), grad, gradients)

        zeros = optax.GradientTransformationExtraArgs(
            lambda params: (*[jnp.zeros(())] * 3, *[jax.tree.map(jnp.zeros_like, params)] * 2), update
        )
        return optax.chain(zeros, optax.scale(-learning_rate))

    registered("keeping", keeping)
    lesson = dataclasses.replace(LESSONS["he"], hidden=(6, 5), optimizer=optimizer("keeping", 0.1))
    state = init_state(lesson, jax.random.key(0))
    (expected, _), grads = jax.value_and_grad(batch_loss, has_aux=True)(state.params, state, toy)
    after, loss = train_step(state, toy)
    value, again, same, grad, gradients = after.opt_state.inner_state[0]
    assert value == loss
    np.testing.assert_allclose([again, same, loss], expected, rtol=1e-6)
    chex.assert_trees_all_close(grad, grads, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(gradients, grads, rtol=1e-4, atol=1e-6)
