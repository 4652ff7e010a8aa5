import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.lessons import each_lesson
from scipy import stats

from mnist_jax import LESSONS, Network, init_state, logits

SEEDS = 6


@pytest.fixture(scope="module")
def initial_params():
    """lesson -> parameters of many seeds, leaves `[SEEDS, ...]`."""
    keys = [jax.random.key(seed) for seed in range(SEEDS)]
    return {
        lesson: jax.tree.map(lambda *leaves: np.stack(leaves), *(init_state(lesson, key).params for key in keys))
        for lesson in LESSONS.values()
    }


@each_lesson
def test_shapes_and_dtypes(lesson):
    state = init_state(lesson, jax.random.key(0))
    out = logits(state, jnp.zeros((7, 28, 28), jnp.uint8))
    assert out.shape == (7, 10)
    assert out.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert {name: part["kernel"].shape for name, part in state.params.items() if "kernel" in part} == {
        "fc1": (784, 512),
        "fc2": (512, 256),
        "fc3": (256, 10),
    }


@each_lesson
def test_parameter_count(lesson):
    params = init_state(lesson, jax.random.key(0)).params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == (537_354 if lesson.batch_norm else 535_818)


@pytest.mark.parametrize("layer", ["fc1", "fc2", "fc3"])
@pytest.mark.parametrize("part", ["kernel", "bias"])
@each_lesson
def test_initial_weights_are_uniform_within_the_stated_bounds(initial_params, lesson, layer, part):
    fan_in = {"fc1": 784, "fc2": 512, "fc3": 256}[layer]
    limit = (6 / fan_in) ** 0.5 if part == "kernel" and lesson.initialisation == "he" else fan_in**-0.5
    values = np.asarray(initial_params[lesson][layer][part], np.float64).ravel()
    n = len(values)
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert np.abs(values).max() > limit * (1 - 20 / n)
    # Within five standard errors of theory: of the mean limit/sqrt(3n), of the variance limit^2 sqrt(4/45n).
    assert abs(values.mean()) < 5 * limit / (3 * n) ** 0.5
    assert abs(values.var() - limit**2 / 3) < 5 * limit**2 * (4 / 45 / n) ** 0.5
    assert stats.kstest(values, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-4


@each_lesson
def test_batch_norm_starts_as_the_identity(lesson):
    state = init_state(lesson, jax.random.key(0))
    names = {"batch_norm1": 512, "batch_norm2": 256} if lesson.batch_norm else {}
    assert set(state.batch_stats) == set(names)
    for name, width in names.items():
        np.testing.assert_array_equal(state.params[name]["scale"], np.ones(width))
        np.testing.assert_array_equal(state.params[name]["bias"], np.zeros(width))
        np.testing.assert_array_equal(state.batch_stats[name]["mean"], np.zeros(width))
        np.testing.assert_array_equal(state.batch_stats[name]["var"], np.ones(width))


@each_lesson
def test_dropout_keeps_the_expectation_and_is_off_in_evaluation(lesson, toy):
    # One hidden layer without batch norm: the logits are linear in what dropout scales.
    lesson = dataclasses.replace(lesson, hidden=(512,), batch_norm=False)
    state = init_state(lesson, jax.random.key(0))
    network, images = Network(lesson), toy.images[:8]
    apply = jax.jit(lambda key: network.apply({"params": state.params}, images, train=True, rngs={"dropout": key}))
    dropped = jax.lax.map(apply, jax.random.split(jax.random.key(1), 4000))
    evaluated = logits(state, images)
    np.testing.assert_array_equal(evaluated, logits(state, images))
    if lesson.dropout_rate == 0:
        np.testing.assert_allclose(dropped[0], evaluated, rtol=1e-5, atol=1e-6)
    else:
        standard_error = dropped.std(0) / 4000**0.5
        assert float(dropped.std(0).min()) > 0
        assert float((jnp.abs(dropped.mean(0) - evaluated) / standard_error).max()) < 5


def test_pixels_are_scaled_to_one_and_read_row_by_row():
    lesson = dataclasses.replace(LESSONS["mlp"], hidden=())
    state = init_state(lesson, jax.random.key(0))
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 2, 5] = 255
    dense = state.params["fc1"]
    np.testing.assert_allclose(logits(state, image)[0], dense["kernel"][2 * 28 + 5] + dense["bias"], rtol=1e-6)


@pytest.mark.parametrize("lesson_id", ["batch_norm", "he", "adam"])
def test_batch_norm_uses_pytorch_epsilon(lesson_id, toy):
    """Where the variance is small, 1e-5 under the root is what counts."""
    state = init_state(dataclasses.replace(LESSONS[lesson_id], hidden=(3,)), jax.random.key(0))
    variance = np.array([0, 1e-5, 1e-3], np.float32)
    (one, two) = (jax.tree.map(np.asarray, state.params[name]) for name in ("fc1", "fc2"))
    inner = toy.images.reshape(len(toy.images), -1) / 255 @ one["kernel"] + one["bias"]
    stats = {"batch_norm1": {"mean": np.float32(inner.mean(0)), "var": variance}}
    normed = np.maximum((inner - inner.mean(0)) / np.sqrt(variance + 1e-5), 0)
    found = logits(dataclasses.replace(state, batch_stats=stats), toy.images)
    np.testing.assert_allclose(found, normed @ two["kernel"] + two["bias"], rtol=1e-3, atol=1e-2)


def test_any_hidden_widths_work():
    state = init_state(dataclasses.replace(LESSONS["adam"], hidden=(3, 4, 5)), jax.random.key(0))
    assert sorted(state.params) == ["batch_norm1", "batch_norm2", "batch_norm3", "fc1", "fc2", "fc3", "fc4"]
