"""Ours, compiled with other options of XLA than by default."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping

import jax

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson
from mnist_jax.runs.devices import on_device
from timing.epochs import ours, start
from timing.peers import Peer

# By itself XLA puts a step's kernels into command buffers (CUDA graphs), but not the loop over the steps: its default
# (`XLA_FLAGS=--help`) is the first five of these kinds. A loop in a CUDA graph needs CUDA 12.3.
LOOPS_TOO = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
OPTIONS = {
    "gpu": {
        "ours_without_command_buffers": {"xla_gpu_enable_command_buffer": ""},
        "ours_loop_in_command_buffer": {"xla_gpu_enable_command_buffer": LOOPS_TOO},
        # Two steps per turn of the loop, as `unroll=2` of `jax.lax.scan`.
        "ours_loop_unrolled": {"xla_gpu_enable_while_loop_unrolling": "WHILE_LOOP_UNROLLING_DOUBLE_BUFFER"},
    }
}


def find_variants(names: Collection[str], data: Dataset, notify: Callable[[str], object]) -> dict[str, Peer]:
    """Those of the named variants that the backend has; `notify` receives a sentence about who is left out."""
    options = OPTIONS.get(jax.default_backend(), {})
    if left_out := [name for name in names if name.startswith("ours") and name not in options]:
        notify(f"Left out, because this is no GPU: {', '.join(left_out)}.")
    found = [name for name in names if name in options]
    placed = on_device(data) if found else data
    return {name: functools.partial(variant, placed, options[name]) for name in found}


def variant(data: Dataset, options: Mapping[str, str], lesson: Lesson, examples: int) -> Iterator[None]:
    """Train on so many examples, compiled with these options, for each `next`."""
    trainer, states = start(lesson, dataclasses.replace(data, epoch_length=examples))
    trainer.compile(states, options)
    yield from ours(trainer, states)
