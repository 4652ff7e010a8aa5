import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax import LESSONS, Network, init_state
from mnist_jax.dropout import Dropout, random_bits


@pytest.mark.parametrize("shape", [(), (0, 5), (7,), (32, 10), (2, 3, 4)], ids=str)
def test_random_bits_match_jax(shape):
    ours, theirs = (jax.jit(function, static_argnums=1) for function in (random_bits, jax.random.bits))

    @given(seed=st.integers(0, 2**32 - 1))
    def compare(seed):
        key = jax.random.key(seed)
        np.testing.assert_array_equal(ours(key, shape), theirs(key, shape))

    compare()


def test_random_bits_match_jax_under_jit_and_vmap():
    keys = jax.random.split(jax.random.key(0), 5)
    ours = jax.jit(jax.vmap(lambda key: random_bits(key, (32, 512))))(keys)
    np.testing.assert_array_equal(ours, jax.vmap(lambda key: jax.random.bits(key, (32, 512)))(keys))


def test_key_of_another_generator_gives_its_numbers():
    key = jax.random.key(0, impl="rbg")
    np.testing.assert_array_equal(random_bits(key, (3, 5)), jax.random.bits(key, (3, 5)))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1 / 3, 0.999])
def test_outputs_match_flax(rate):
    x = jax.random.normal(jax.random.key(1), (64, 256))
    for deterministic in (False, True):
        ours, flax = (
            layer(rate, deterministic=deterministic).apply({}, x, rngs={"dropout": jax.random.key(2)})
            for layer in (Dropout, nn.Dropout)
        )
        np.testing.assert_array_equal(ours, flax)
        assert ours.dtype == x.dtype


def test_float64_masks_equal_float32_masks():
    with jax.enable_x64(True):
        x = jnp.ones((64, 64), jnp.float64)
        wide = np.asarray(Dropout(0.3, deterministic=False).apply({}, x, rngs={"dropout": jax.random.key(2)}))
    assert wide.dtype == np.float64
    narrow = Dropout(0.3, deterministic=False).apply({}, jnp.ones((64, 64)), rngs={"dropout": jax.random.key(2)})
    np.testing.assert_array_equal(wide != 0, narrow != 0)


def test_network_drops_the_same_units_as_flax(toy, monkeypatch):
    lesson = dataclasses.replace(LESSONS["dropout"], hidden=(16, 8))
    state = init_state(lesson, jax.random.key(0))

    def apply():
        rngs = {"dropout": jax.random.key(5)}
        return Network(lesson).apply({"params": state.params}, toy.images, train=True, rngs=rngs)

    ours = apply()
    monkeypatch.setattr("mnist_jax.model.Dropout", nn.Dropout)
    np.testing.assert_array_equal(ours, apply())
