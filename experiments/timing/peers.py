"""Other ways to train: a jitted step called from a Python loop, and PyTorch where it is installed."""

import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal

import jax
import numpy as np

from mnist_jax.lessons import Lesson
from mnist_jax.train import Examples, init_state, train_step

PeerName = Literal[
    "ours_per_core",
    "ours_split",
    "jax_step_loop",
    "torch_in_memory",
    "torch_per_core",
    "torch_dataloader",
    "torch_compile",
    "torch_cuda_graph",
    "ours_without_command_buffers",
    "ours_loop_in_command_buffer",
    "ours_loop_unrolled",
]
# Trains a lesson on this many examples at each `next`, and waits until that is done.
Peer = Callable[[Lesson, int], Iterator[None]]


def find_peers(
    names: Collection[str], train: Examples, notify: Callable[[str], object]
) -> tuple[dict[str, Peer], dict[str, Any]]:
    """The named peers that can run here, and PyTorch's version, threads and device.

    `train` holds numpy arrays; `notify` receives a message about those left out.
    """
    peers: dict[str, Peer] = {"jax_step_loop": functools.partial(jax_step_loop, train)}
    environment: dict[str, Any] = {}
    if wanted := [name for name in names if name.startswith("torch")]:
        try:
            import timing.pytorch as pytorch
        except ImportError:
            notify(f"PyTorch is not installed, so {', '.join(wanted)} are left out.")
        else:
            environment = pytorch.describe()
            peers |= pytorch.peers(train)
            if "torch_compile" in wanted and (reason := pytorch.why_not_compiled()):
                del peers["torch_compile"]
                notify(f"torch.compile fails here and is left out: {reason}.")
            if "torch_cuda_graph" in wanted and "torch_cuda_graph" not in peers:
                notify("PyTorch has no CUDA here, so torch_cuda_graph is left out.")
            if "torch_per_core" in wanted and "torch_per_core" not in peers:
                notify("PyTorch trains on the GPU here, so torch_per_core is left out.")
    return {name: peer for name, peer in peers.items() if name in names}, environment


def jax_step_loop(train: Examples, lesson: Lesson, examples: int) -> Iterator[None]:
    """Call the compiled step for each batch, with slices of shuffled arrays, as in most JAX examples."""
    state = init_state(lesson, jax.random.key(0))
    generator = np.random.default_rng(0)
    while True:
        order = np.resize(generator.permutation(train.size), examples)
        images, labels = train.images[order], train.labels[order]
        for first in range(0, examples, lesson.batch_size):
            batch = slice(first, first + lesson.batch_size)
            state, loss = train_step(state, Examples(images[batch], labels[batch]))
        jax.block_until_ready((state, loss))
        yield
