"""The code on docs/linen-and-nnx.md runs, and computes what ours does."""

import dataclasses
import re
from types import SimpleNamespace

import chex
import jax
import numpy as np
import pytest
from flax import nnx
from helpers import ROOT
from helpers.lessons import NARROW, each_lesson, first_and_last_quick

from mnist_jax import LESSONS, Network, init_state, logits, train_step

PAGE = ROOT / "docs" / "linen-and-nnx.md"


@pytest.fixture(scope="module")
def page():
    """What the page's code defines."""
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(code, PAGE.name, "exec"), names)
    return SimpleNamespace(**names)


def trained(lesson, toy, seed=0):
    """After two steps, so that no statistic is still 0 or 1 throughout."""
    state = init_state(lesson, jax.random.key(seed))
    for _ in range(2):
        state, _ = train_step(state, toy)
    return state


def logits_in_training(state, images):
    return Network(state.lesson).apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        images,
        train=True,
        rngs={"dropout": jax.random.fold_in(state.dropout_key, state.step)},
        mutable=["batch_stats"],
    )[0]


def assert_same_state(network, optimizer, state, tolerance):
    params = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    stats = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
    if state.lesson.optimizer.name == "adam":
        # The gradient of a bias before batch norm is rounding noise, which Adam divides by its size.
        for layer in range(1, len(stats) + 1):
            del params[f"fc{layer}"]["bias"], state.params[f"fc{layer}"]["bias"]
    found = (params, stats, jax.tree.leaves(optimizer.opt_state))
    ours = (state.params, state.batch_stats, jax.tree.leaves(state.opt_state))
    chex.assert_trees_all_equal_shapes_and_dtypes(found, ours)
    chex.assert_trees_all_close(found, ours, rtol=tolerance, atol=tolerance)


def assert_computes_what_ours_does(page, state, toy, tolerance):
    network, optimizer = page.from_ours(state)
    keys = page.our_dropout_keys(state)
    network.eval()
    found = nnx.jit(network.__class__.__call__)(network, toy.images)
    np.testing.assert_allclose(found, logits(state, toy.images), rtol=tolerance, atol=tolerance)
    network.train()
    found = nnx.jit(network.__class__.__call__)(nnx.clone(network), toy.images, keys)
    ours = jax.jit(logits_in_training)(state, toy.images)
    np.testing.assert_allclose(found, ours, rtol=tolerance, atol=tolerance)
    found = page.train_step(network, optimizer, toy, keys)
    state, loss = train_step(state, toy)
    np.testing.assert_allclose(found, loss, rtol=tolerance)
    assert_same_state(network, optimizer, state, tolerance)


@each_lesson
def test_nnx_logits_and_step_are_ours(page, lesson, toy):
    assert_computes_what_ours_does(page, trained(lesson, toy), toy, 1e-6)


@first_and_last_quick(NARROW)
def test_nnx_logits_and_step_are_ours_in_float64(page, lesson, toy):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # nnx.BatchNorm promotes to at least float32
        lesson = dataclasses.replace(lesson, dtype="float64", dropout_rate=0.0)
        assert_computes_what_ours_does(page, trained(lesson, toy), toy, 1e-12)


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "tree"])
def test_nnx_runs_side_by_side_are_ours(page, graph, toy):
    """Also in tree mode, which Flax plans as the default."""
    states = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *(trained(NARROW["adam"], toy, s) for s in (0, 1)))
    with nnx.set_graph_mode(graph), nnx.set_graph_updates(graph):
        networks, optimizers = nnx.vmap(page.from_ours)(states)
        keys = jax.vmap(page.our_dropout_keys)(states)
        found = nnx.vmap(page.train_step, in_axes=(0, 0, None, 0))(networks, optimizers, toy, keys)
        states, losses = jax.vmap(train_step, in_axes=(0, None))(states, toy)
        np.testing.assert_allclose(found, losses, rtol=1e-6)
        assert_same_state(networks, optimizers, states, 1e-6)


@pytest.mark.parametrize(("lesson_id", "dtype"), [("mlp", "float32"), ("he", "float64")])
def test_nnx_starts_with_weights_within_our_bounds(page, lesson_id, dtype):
    with jax.enable_x64(dtype == "float64"):
        lesson = dataclasses.replace(LESSONS[lesson_id], dtype=dtype)
        network, _ = page.create(lesson, jax.random.key(0))
        found, ours = nnx.to_pure_dict(nnx.state(network, nnx.Param)), init_state(lesson, jax.random.key(0)).params
    chex.assert_trees_all_equal_shapes_and_dtypes(found, ours)
    for layer, part in [("fc1", "kernel"), ("fc1", "bias"), ("fc2", "kernel"), ("fc2", "bias"), ("fc3", "kernel")]:
        np.testing.assert_allclose(np.abs(found[layer][part]).max(), np.abs(ours[layer][part]).max(), rtol=0.02)
