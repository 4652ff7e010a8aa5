"""The JAX side of the parity tests: everything that PyTorch needs to train as `verification.trained` does."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mnist_jax import Examples, Lesson, Network
from mnist_jax.dropout import Dropout
from mnist_jax.studies.verification import batches, initial_state, probe


@dataclasses.dataclass(frozen=True)
class Start:
    """What both sides start from: initial weights, batches, and the dropout masks of the JAX run.

    Attributes:
      params: Flax's nested dict, float64 or float32.
      batches: one per step.
      masks: one per step, and a last one for the probe: layer -> `[batch, width]`, 0 or 1.
      probe: examples that no step used as such.
    """

    params: dict[str, dict[str, np.ndarray]]
    batches: list[Examples]
    masks: list[list[np.ndarray]]
    probe: Examples


def start_of(lesson: Lesson, digits) -> Start:
    """Where `verification.trained` starts, and what it meets."""
    with jax.enable_x64(lesson.dtype == "float64"):
        state, rest = initial_state(lesson), probe(digits)
        steps = batches(state, digits)
        masks = [
            _numpy(dropout_masks(lesson, dataclasses.replace(state, step=jnp.int32(step)), batch))
            for step, batch in enumerate([*steps, rest])
        ]
        return Start(_numpy(state.params), steps, masks, rest)


@functools.partial(jax.jit, static_argnames="lesson")
def dropout_masks(lesson: Lesson, state: Any, batch: Examples) -> list[jax.Array]:
    """The masks that the next `train_step` will use.

    A dropout layer's random bits depend on its place in the network and the key, not on its input: given ones, it
    returns its mask over 1 - rate.
    """
    if lesson.dropout_rate == 0:
        return []
    masks = []

    def with_ones(call, args, kwargs, context):
        if not isinstance(context.module, Dropout):
            return call(*args, **kwargs)
        masks.append((call(jnp.ones_like(args[0]), **kwargs) != 0).astype(args[0].dtype))
        return args[0]

    with nn.intercept_methods(with_ones):
        Network(lesson).apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            batch.images,
            train=True,
            rngs={"dropout": jax.random.fold_in(state.dropout_key, state.step)},
            mutable=["batch_stats"],
        )
    return masks


def _numpy(tree: Any) -> Any:
    """Copies that may be written to, as PyTorch wants them."""
    return jax.tree.map(np.array, tree)
