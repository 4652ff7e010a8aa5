"""What an optimizer does to each layer: how large its gradients are, and how far a step moves its weights.

SGD's step is in proportion to the gradient. Adam divides by the gradient's size, so that its step is about the learning
rate in every weight, whatever the size of the gradient and whatever the layer.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnist_jax.lessons import Lesson, for_run
from mnist_jax.train import Examples, TrainState, batch_loss, epoch_order, init_state, train_step

FOLLOWED = "he"  # the net of a comparison that is followed; of one without it the first
POINTS = 40  # of a curve, at most; evenly spread over the logarithm of the steps


class Sizes(NamedTuple):
    """Of one step, layer by layer: `[layers]` of its kernel.

    Attributes:
      update_to_weight: norm of what the step changed, over the norm of the weights before it.
      gradient: root mean square of the entries of the batch loss's gradient.
    """

    update_to_weight: jax.Array
    gradient: jax.Array


def followed_net(nets: Iterable[str]) -> str:
    """Which of a comparison's nets is followed."""
    names = list(nets)
    return FOLLOWED if FOLLOWED in names else names[0]


def follow(lesson: Lesson, examples: Examples, seed: int, *, epochs: int, length: int | None = None) -> dict[str, Any]:
    """Train one run and measure each of its steps: the run that `train_epoch` makes of this seed.

    Args:
      lesson: net and optimizer.
      examples: on the device, whole.
      seed: of the run.
      epochs: how many.
      length: how many examples an epoch draws; by default each example once.

    Returns:
      For results.json: `steps`, the last step of each of at most `POINTS` stretches, and `layers`, name of the layer ->
      the fields of `Sizes`, a mean over the steps of each stretch; None where one is not finite.
    """
    length = examples.size if length is None else length
    per_epoch = -(-length // lesson.batch_size)
    state = init_state(for_run(lesson, steps_per_epoch=per_epoch, epochs=epochs), jax.random.key(seed))
    measured = []
    for _ in range(epochs):
        state, sizes = _measured_epoch(state, examples, length)
        measured.append(jax.device_get(sizes))
    ends = np.unique(np.geomspace(1, epochs * per_epoch, POINTS).round().astype(int))
    curves = {
        name: _stretches(np.concatenate([getattr(sizes, name) for sizes in measured]), ends) for name in Sizes._fields
    }
    return {
        "steps": ends.tolist(),
        "layers": {
            layer: {name: curves[name][place] for name in Sizes._fields} for place, layer in enumerate(_layers(state))
        },
    }


def _layers(state: TrainState) -> list[str]:
    """Names of those with a kernel, from the first."""
    return [f"fc{number}" for number in range(1, 2 + len(state.lesson.hidden))]


def _stretches(values: np.ndarray, ends: np.ndarray) -> list[list[float | None]]:
    """`[steps, layers]` to a list for each layer: means over the steps after one end, up to the next."""
    means = np.add.reduceat(values.astype(float), [0, *ends[:-1]]) / np.diff(ends, prepend=0)[:, None]
    return [[float(value) if np.isfinite(value) else None for value in layer] for layer in means.T]


@functools.partial(jax.jit, donate_argnames="state", static_argnames="length")
def _measured_epoch(state: TrainState, examples: Examples, length: int) -> tuple[TrainState, Sizes]:
    """`train_epoch`, and the sizes of each step, `[steps, layers]`."""
    order = epoch_order(jax.random.fold_in(state.order_key, state.step), examples.size, length)
    size = state.lesson.batch_size
    whole, rest = divmod(length, size)

    def step(state: TrainState, indices: jax.Array) -> tuple[TrainState, Sizes]:
        return _measured_step(state, Examples(examples.images[indices], examples.labels[indices]))

    state, sizes = jax.lax.scan(step, state, order[: whole * size].reshape(whole, size))
    if rest:
        state, last = step(state, order[whole * size :])
        sizes = jax.tree.map(lambda before, size: jnp.concatenate([before, size[None]]), sizes, last)
    return state, sizes


def _measured_step(state: TrainState, batch: Examples) -> tuple[TrainState, Sizes]:
    """`train_step`, and its sizes; the compiler computes the gradient, which both need, once."""
    gradients, _ = jax.grad(batch_loss, has_aux=True)(state.params, state, batch)
    after, _ = train_step(state, batch)

    def kernels(tree: Any) -> list[jax.Array]:
        return [tree[layer]["kernel"] for layer in _layers(state)]

    updates = jax.tree.map(jnp.subtract, kernels(after.params), kernels(state.params))
    sizes = Sizes(
        update_to_weight=jnp.stack(
            [optax.tree.norm(u) / optax.tree.norm(w) for u, w in zip(updates, kernels(state.params), strict=True)]
        ),
        gradient=jnp.stack([jnp.sqrt(jnp.mean(g**2)) for g in kernels(gradients)]),
    )
    return after, sizes
