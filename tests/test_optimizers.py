import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import LESSONS, OPTIMIZERS, Optimizer, UserError, init_state, optimizer, train_step
from mnist_jax.optimizers import hyperparameter_names

PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
GRADS = jax.tree.map(lambda p: 0.1 * p + 0.3, PARAMS)


def test_promised_optimizers_exist():
    assert {"sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "nadam"} <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
@jax.numpy_dtype_promotion("standard")  # optax itself needs it for traced hyperparameters
def test_matches_optax(name):
    ours, theirs = optimizer(name, 0.02).transformation(), OPTIMIZERS[name](0.02)
    results = []
    for transformation in (ours, theirs):
        params, state = PARAMS, transformation.init(PARAMS)
        for _ in range(3):
            updates, state = transformation.update(GRADS, state, params)
            params = optax.apply_updates(params, updates)
        results.append(params)
    chex.assert_trees_all_close(*results, rtol=2e-5)


def test_sgd_with_momentum_matches_pytorch():
    rate, momentum = 0.1, 0.5
    transformation = optimizer("sgd", rate, momentum=momentum).transformation()
    state, expected, velocity = transformation.init(PARAMS), PARAMS, jax.tree.map(jnp.zeros_like, PARAMS)
    params = PARAMS
    for _ in range(4):
        updates, state = transformation.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, GRADS)
        expected = jax.tree.map(lambda p, v: p - rate * v, expected, velocity)
    chex.assert_trees_all_close(params, expected, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(name, toy):
    lesson = dataclasses.replace(LESSONS["relu"], dropout_rate=0.0, optimizer=optimizer(name, 0.003))
    state = init_state(lesson, jax.random.key(0))
    losses = []
    for _ in range(20):
        state, loss = train_step(state, toy)
        losses.append(loss)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hyperparameters_are_traced_values_of_the_state(name):
    numbers = optimizer(name, 0.25).transformation().init(PARAMS).hyperparams
    assert numbers["learning_rate"] == 0.25
    assert set(numbers) <= {"learning_rate", *hyperparameter_names(name)}


def test_whole_numbers_are_held_as_floats():
    whole, floating = (optimizer("sgd", one, momentum=0 * one).transformation().init(PARAMS) for one in (1, 1.0))
    chex.assert_trees_all_equal(whole, floating)
    chex.assert_trees_all_equal_dtypes(whole, floating)


def test_each_optimizer_has_its_own_hyperparameters():
    assert hyperparameter_names("sgd") == ["momentum"]
    assert {"b1", "b2", "eps"} <= set(hyperparameter_names("adam"))
    assert "weight_decay" in hyperparameter_names("adamw")
    assert str(optimizer("adam", 0.01, b2=0.99, b1=0.8)) == "adam 0.01, b1 0.8, b2 0.99"
    assert optimizer("adam", 0.01, b2=0.99, b1=0.8) == Optimizer("adam", 0.01, (("b1", 0.8), ("b2", 0.99)))


@pytest.mark.parametrize(
    ("name", "rate", "numbers", "says"),
    [
        ("adman", 0.01, {}, r"'adman'.*sgd, adam, adamw, rmsprop, adagrad, lion, nadam"),
        ("sgd", 0.0, {}, "above 0"),
        ("sgd", -1.0, {}, "above 0"),
        ("sgd", float("nan"), {}, "above 0"),
        ("sgd", float("inf"), {}, "above 0"),
        ("sgd", 1e39, {}, "float32"),
        ("sgd", 1e-46, {}, "float32"),
        ("sgd", 0.01, {"learning_rate": 0.1}, "momentum"),
        ("sgd", 0.01, {"name": 1}, "momentum"),
        ("adam", 0.01, {"momentum": 0.5}, r"'momentum'.*b1, b2, eps"),
        ("sgd", "0.01", {}, "above 0"),
        ("sgd", True, {}, "above 0"),
        ("sgd", np.float32(0.1), {}, r"Python number above 0 .*not np.float32\(0.1\)"),
        ("sgd", 0.1, {"momentum": np.float32(0.5)}, "momentum must be a Python number"),
        ("sgd", None, {}, "above 0"),
        ("sgd", 10**400, {}, "above 0"),
        (["sgd"], 0.01, {}, "sgd, adam"),
        ("sgd", 0.01, {"momentum": 1.0}, "below 1"),
        ("sgd", 0.01, {"momentum": 1 - 1e-9}, "below 1 that float32 holds"),
        ("adam", 0.01, {"b2": 1 - 1e-9}, "below 1 that float32 holds"),
        ("adam", 0.01, {"eps": 1e-46}, "float32"),
        ("adam", 0.01, {"eps": 1e39}, "float32"),
        ("adam", 0.01, {"eps": "1"}, "must be a Python number"),
        ("adam", 0.01, {"b1": False}, "must be a Python number"),
        ("adam", 0.01, {"b1": None}, "must be a Python number"),
        ("adam", 0.01, {"b1": -0.1}, "at least 0"),
        ("adamw", 0.01, {"weight_decay": float("nan")}, "at least 0"),
    ],
)
def test_invalid_values_are_refused(name, rate, numbers, says):
    with pytest.raises(UserError, match=says):
        optimizer(name, rate, **numbers)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ({"b1": 0.5}, "pairs"),
        ([("b1", 0.5)], "pairs"),
        (("b1", 0.5), "pairs"),
        ((("b1", 0.5, 1),), "pairs"),
        ((("b2", 0.5), ("b1", 0.5)), "in the order of their names"),
        ((("b1", 0.5), ("b1", 0.6)), "once"),
        (((1, 0.5), ("b1", 0.6)), "pairs"),
    ],
)
def test_malformed_hyperparameters_are_refused(pairs, says):
    with pytest.raises(UserError, match=says):
        Optimizer("adam", 0.01, pairs)


def test_unknown_hyperparameter_cannot_be_traced():
    with pytest.raises(UserError, match="momentum"):
        optimizer("sgd", 0.1).transformation({"momentum": 0.5})
    with pytest.raises(UserError, match="traced hyperparameter of sgd 'momentum'"):
        optimizer("sgd", 0.1).check({"momentum": 0.5})
    optimizer("sgd", 0.1, momentum=0.9).check({"momentum": 0.5})
