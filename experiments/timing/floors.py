"""The floor: an epoch's matrix products and a bare update, and nothing else.

For each step the same eight products and w - rate * gradient, without momentum, biases, activations, loss or data.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson
from mnist_jax.runs.devices import COMPILER_OPTIONS

RATE = 1e-8  # so small that the weights stay of ordinary size, however long it runs


def floors(lesson: Lesson, data: Dataset) -> dict[str, Iterator[None]]:
    """Plain, and with the compiler's options of ours."""
    options = {"floor": None, "tuned_floor": COMPILER_OPTIONS.get(jax.default_backend())}
    return {name: floor(lesson, data.steps(lesson), chosen) for name, chosen in options.items()}


def floor(lesson: Lesson, steps: int, options: Mapping[str, Any] | None) -> Iterator[None]:
    """Make the products of an epoch of a lesson, compiled with `options`, for each `next`."""
    generator = np.random.default_rng(0)
    shapes = itertools.pairwise(lesson.widths)
    weights = [jnp.asarray(generator.normal(0, shape[0] ** -0.5, shape), jnp.float32) for shape in shapes]
    inputs = jnp.asarray(generator.random((lesson.batch_size, lesson.widths[0])), jnp.float32)
    lowered: Any = jax.jit(floor_epoch, static_argnames="steps", donate_argnums=0).lower(weights, inputs, steps)
    compiled = lowered.compile(compiler_options=options)
    while True:
        weights = jax.block_until_ready(compiled(weights, inputs))
        yield


def floor_epoch(weights: list[jax.Array], inputs: jax.Array, steps: int) -> list[jax.Array]:
    """The kernels after `steps` steps of a linear net on one batch, its outputs taken for their own gradients."""

    def step(weights: list[jax.Array], _: None) -> tuple[list[jax.Array], None]:
        outputs, pull_back = jax.vjp(lambda weights: functools.reduce(jnp.matmul, weights, inputs), weights)
        (gradients,) = pull_back(outputs)
        return [weight - RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)], None

    return jax.lax.scan(step, weights, length=steps)[0]
