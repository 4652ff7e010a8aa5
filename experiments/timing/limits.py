"""The machine's limits: how fast it computes large matrix products, and how fast it copies.

An epoch must compute its matrix products and move its weights. No float32 program can exceed these rates, unless the
weights stay in a cache.
"""

import functools
import itertools
import os
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson
from mnist_jax.train import init_state
from timing.epochs import elapsed
from timing.processes import in_processes

SIDE = 4096  # of the matrices of a large product
COPIED = 256 * 2**20  # bytes
COPIES = 16  # in a row: one takes a GPU less time than the call


def products() -> Iterator[None]:
    """Compute a large float32 product at each `next`, with all cores or on the first device."""
    if jax.default_backend() == "cpu":
        # Variables that numpy's BLAS reads when it is loaded may choose an older processor's kernels, or fewer threads.
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS_", "OMP_"))}
        return in_processes(1, numpy_products, SIDE, environment=plain)
    return jax_products(SIDE)


def numpy_products(side: int) -> Iterator[None]:
    """Products with numpy, on as many threads as its BLAS chooses."""
    first, second = np.random.default_rng(0).random((2, side, side), np.float32)
    out = np.empty((side, side), np.float32)
    while True:
        np.matmul(first, second, out=out)
        yield


def jax_products(side: int) -> Iterator[None]:
    """Products with JAX, on the first device, in its default precision."""
    factors = jax.random.uniform(jax.random.key(0), (2, side, side))
    multiply = jax.jit(lambda factors: factors[0] @ factors[1])
    while True:
        jax.block_until_ready(multiply(factors))
        yield


def copy_bandwidth() -> float:
    """Bytes per second that the first device reads and writes when adding 1 to an array in place."""
    add = jax.jit(lambda array: array + 1, donate_argnums=0)
    arrays = [jnp.zeros(COPIED // 4, jnp.float32)]

    def copy() -> None:
        for _ in range(COPIES):
            arrays.append(add(arrays.pop()))
        jax.block_until_ready(arrays)

    copy()  # compiles
    return COPIES * 2 * COPIED / statistics.median(elapsed(copy) for _ in range(5))


def limits(lessons: Mapping[str, Lesson], data: Dataset, product_seconds: float) -> dict[str, Any]:
    """The machine's rates, given the seconds of a large product, and the least that an epoch of each lesson must do."""
    return {
        "product_gigaflops_per_second": 2 * SIDE**3 / product_seconds / 1e9,
        "copy_gigabytes_per_second": copy_bandwidth() / 1e9,
        "epoch_gigaflops": {
            name: flops_per_example(lesson) * data.epoch_length / 1e9 for name, lesson in lessons.items()
        },
        "epoch_gigabytes": {
            name: bytes_per_step(lesson) * data.steps(lesson) / 1e9 for name, lesson in lessons.items()
        },
    }


def flops_per_example(lesson: Lesson) -> int:
    """Floating-point operations per example in a step's matrix products.

    Each layer has one for its outputs, one for its kernel's gradient and, except for the first, one for its inputs'.
    """
    kernels = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(lesson.widths)]
    return 2 * (3 * sum(kernels) - kernels[0])


def bytes_per_step(lesson: Lesson) -> int:
    """The fewest bytes that a step of one net must move, in float32.

    The weights, read in the forward and in the backward pass (the first kernel's second read, which is not needed, is
    counted too), the gradient written and read, the weight written, and what the optimizer keeps read and written.
    """
    state = jax.eval_shape(functools.partial(init_state, lesson), jax.random.key(0))
    kept = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    return 4 * (5 * lesson.parameters + 2 * kept)
