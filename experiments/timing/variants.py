"""Our training on other devices, or with other options of XLA, than by default."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping

import jax

from mnist_jax.data import Dataset
from mnist_jax.lessons import LESSONS, Lesson
from mnist_jax.runs.devices import Placement, on_device
from mnist_jax.runs.records import Run
from mnist_jax.runs.sharding import divides
from timing.epochs import ours, start
from timing.peers import Peer

# By default XLA puts a step's kernels into command buffers (CUDA graphs), but not the loop over the steps: that default
# (`XLA_FLAGS=--help`) is the first five of these kinds. A loop in a CUDA graph needs CUDA 12.3.
LOOPS_TOO = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
OPTIONS = {
    "gpu": {
        "ours_without_command_buffers": {"xla_gpu_enable_command_buffer": ""},
        "ours_loop_in_command_buffer": {"xla_gpu_enable_command_buffer": LOOPS_TOO},
        # Two steps per iteration, like `unroll=2` in `jax.lax.scan`.
        "ours_loop_unrolled": {"xla_gpu_enable_while_loop_unrolling": "WHILE_LOOP_UNROLLING_DOUBLE_BUFFER"},
    }
}


def find_variants(names: Collection[str], data: Dataset, notify: Callable[[str], object]) -> dict[str, Peer]:
    """The named variants that can run on this machine; `notify` receives a message about those left out."""
    placed, count, backend = on_device(data), len(jax.devices()), jax.default_backend()
    found: dict[str, Peer] = {
        name: functools.partial(compiled_with, placed, options) for name, options in OPTIONS.get(backend, {}).items()
    }
    if backend == "cpu" and count > 1:
        found["ours_per_core"] = functools.partial(placed_as, data, count, Placement())
        if all(divides(lesson, count) for lesson in LESSONS.values()):
            found["ours_split"] = functools.partial(placed_as, data, 1, Placement(devices_per_run=count))
    if left_out := [name for name in names if name.startswith("ours") and name not in found]:
        notify(f"Left out, because they cannot run on these devices: {', '.join(left_out)}.")
    return {name: variant for name, variant in found.items() if name in names}


def compiled_with(data: Dataset, options: Mapping[str, str], lesson: Lesson, examples: int) -> Iterator[None]:
    """Train on this many examples, compiled with these options, at each `next`."""
    trainer, states = start(lesson, dataclasses.replace(data, epoch_length=examples))
    trainer.compile(states, options)
    yield from ours(trainer, states)


def placed_as(data: Dataset, runs: int, placement: Placement, lesson: Lesson, examples: int) -> Iterator[None]:
    """Train this many runs on this many examples, with this placement, at each `next`."""
    seeds = [Run(seed) for seed in range(runs)]
    yield from ours(*start(lesson, dataclasses.replace(data, epoch_length=examples), seeds, placement))
