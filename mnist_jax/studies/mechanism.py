"""What an optimizer does to each layer: how large its gradients are, and how far a step moves its weights.

SGD's step is proportional to the gradient. Adam divides by the gradient's size, so that it moves every weight by about
the learning rate, whatever the layer and the size of its gradient.
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

FOLLOWED = "he"  # the net of a comparison that is followed, or else its first
POINTS = 40  # at most, per curve; evenly spread over the logarithm of the steps


class Sizes(NamedTuple):
    """Sizes in one step, for each layer's kernel: `[layers]`.

    Attributes:
      update_to_weight: norm of the update divided by the norm of the weights before it.
      gradient: root mean square of the entries of the batch loss's gradient.
    """

    update_to_weight: jax.Array
    gradient: jax.Array


def followed_net(nets: Iterable[str]) -> str:
    """Which of a comparison's nets is followed."""
    names = list(nets)
    return FOLLOWED if FOLLOWED in names else names[0]


def follow(lesson: Lesson, examples: Examples, seed: int, *, epochs: int, length: int | None = None) -> dict[str, Any]:
    """Train the run that `train_epoch` would with this seed, and measure each of its steps.

    Args:
      lesson: net and optimizer.
      examples: the whole training split, on the device.
      seed: seed of the run.
      epochs: number of epochs.
      length: number of examples in an epoch; by default each example once.

    Returns:
      For results.json: `steps`, the last step of each of at most `POINTS` stretches, and `layers`, name of the layer ->
      the fields of `Sizes`, each the means over the steps of every stretch; None for one that is not finite.
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
    """Names of the layers with a kernel, in order."""
    return [f"fc{number}" for number in range(1, 2 + len(state.lesson.hidden))]


def _stretches(values: np.ndarray, ends: np.ndarray) -> list[list[float | None]]:
    """Values `[steps, layers]` as a list for each layer: means over the steps after one end, up to the next."""
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
