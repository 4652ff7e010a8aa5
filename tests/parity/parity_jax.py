"""The JAX side of the parity tests: a lesson trained step by step, with everything PyTorch needs to do the same."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mnist_jax import Examples, Lesson, Network, data, init_state, logits, train_step
from mnist_jax import train as training
from mnist_jax.dropout import Dropout

STEPS = 200
PROBE = 100  # examples on which logits and gradients are compared at the end


@dataclasses.dataclass(frozen=True)
class Start:
    """What both sides are given: initial weights, batches, and the dropout masks of the JAX run.

    Attributes:
      params: Flax's nested dict, float64 or float32.
      batches: one a step.
      masks: one a step, the last for the probe: layer -> `[batch, width]`, 0 or 1.
      probe: examples that no step used as such.
    """

    params: dict[str, dict[str, np.ndarray]]
    batches: list[Examples]
    masks: list[list[np.ndarray]]
    probe: Examples


@dataclasses.dataclass(frozen=True)
class Run:
    """What comes out: the loss of every step, and the end of the run.

    `end` maps a quantity (params, gradients, optimizer.*, batch_stats) to layer -> name -> array; `logits` are the
    probe's, in evaluation.
    """

    losses: np.ndarray
    logits: np.ndarray
    end: dict[str, dict[str, dict[str, np.ndarray]]]


def run_jax(lesson: Lesson, *, seed: int = 0, steps: int = STEPS) -> tuple[Start, Run]:
    """Train `lesson` on the sample's real digits with this project's own functions."""
    assert steps <= STEPS
    with jax.enable_x64(lesson.dtype == "float64"):
        digits = data.load("sample")
        state = init_state(lesson, jax.random.key(seed))
        start_params = _numpy(state.params)
        key = jax.random.fold_in(state.order_key, state.step)
        order = np.asarray(training.epoch_order(key, digits.train.size, STEPS * lesson.batch_size))
        probe = Examples(digits.test.images[:PROBE], digits.test.labels[:PROBE])
        batches, masks, losses = [], [], []
        for indices in order.reshape(STEPS, lesson.batch_size)[:steps]:
            batch = Examples(digits.train.images[indices], digits.train.labels[indices])
            batches.append(batch)
            masks.append(_numpy(dropout_masks(lesson, state, batch)))
            state, loss = train_step(state, batch)
            losses.append(float(loss))
        masks.append(_numpy(dropout_masks(lesson, state, probe)))
        end = {
            "params": _numpy(state.params),
            "gradients": _numpy(_gradients(lesson, state, probe)),
            "batch_stats": _numpy(state.batch_stats),
            **_optimizer_state(state.opt_state.inner_state),
        }
        return (
            Start(start_params, batches, masks, probe),
            Run(np.array(losses), np.asarray(logits(state, probe.images)), end),
        )


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


def _gradients(lesson: Lesson, state: Any, batch: Examples) -> Any:
    def loss(params):
        outputs, _ = Network(lesson).apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch.images,
            train=True,
            rngs={"dropout": jax.random.fold_in(state.dropout_key, state.step)},
            mutable=["batch_stats"],
        )
        return training.cross_entropy(outputs, batch.labels)

    return jax.grad(loss)(state.params)


def _optimizer_state(inner: Any) -> dict[str, Any]:
    """optax's moments: `trace` of SGD with momentum, `mu` and `nu` of Adam."""
    first = inner[0]
    return {f"optimizer.{name}": _numpy(getattr(first, name)) for name in ("trace", "mu", "nu") if hasattr(first, name)}


def _numpy(tree: Any) -> Any:
    return jax.tree.map(np.array, tree)
