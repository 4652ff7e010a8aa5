"""Whole runs side by side, and the memory traffic that they reach.

A step must move at least the weights: read in the forward and in the backward pass (the first kernel's second read,
which is not needed, is counted too), the gradient written and read, the weight written, and what the optimizer keeps
read and written. Nets that stay in a cache can do more than a copy of a large array.
"""

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.records import Run
from mnist_jax.train import init_state
from timing.epochs import Progress, compile_seconds, elapsed, ours, start

COPIED = 256 * 2**20  # bytes


def side_by_side_times(
    lessons: Mapping[str, Lesson], data: Dataset, counts: Sequence[int], epochs: int, progress: Progress
) -> dict[str, Any]:
    """An entry for each lesson and number of runs, and what a copy reaches."""
    if not counts:
        return {"replicas": []}
    copied = copy_bandwidth()
    entries = []
    for _, lesson_id, count in progress([("side by side", lesson, count) for lesson in lessons for count in counts]):
        lesson, devices = lessons[lesson_id], min(count, len(jax.devices()))
        placement = Placement(side_by_side=math.ceil(count / devices))
        trainer, states = start(lesson, data, [Run(seed) for seed in range(count)], placement)
        compiling = compile_seconds(trainer, states)
        trained = ours(trainer, states)
        seconds = [elapsed(trained.__next__) for _ in range(epochs)]
        moved = count * epochs * data.steps(lesson) * bytes_per_step(lesson)
        traffic = moved / sum(seconds) / devices
        entries.append(
            {
                "lesson": lesson_id,
                "replicas": count,
                "devices": devices,
                "epochs": epochs,
                "compile_seconds": compiling,
                "epoch_seconds": seconds,
                "seconds": sum(seconds),
                "seconds_per_replica": sum(seconds) / count,
                "bytes_per_step": bytes_per_step(lesson),
                "gigabytes_per_second": traffic / 1e9,
                "share_of_copy": traffic / copied,
            }
        )
    return {"replicas": entries, "copy_gigabytes_per_second": copied / 1e9}


def bytes_per_step(lesson: Lesson) -> int:
    """The least that a step of one net must move, in float32."""
    state = jax.eval_shape(functools.partial(init_state, lesson), jax.random.key(0))
    kept = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    return 4 * (5 * lesson.parameters + 2 * kept)


def copy_bandwidth() -> float:
    """Bytes per second that the first device reads and writes in adding 1 to an array in its place."""
    add = jax.jit(lambda array: array + 1, donate_argnums=0)
    arrays = [jnp.zeros(COPIED // 4, jnp.float32)]

    def copy() -> None:
        arrays.append(jax.block_until_ready(add(arrays.pop())))

    copy()  # compiles
    return 2 * COPIED / statistics.median(elapsed(copy) for _ in range(5))
