"""Training as pure functions of one PyTree.

    state = init_state(lesson, jax.random.key(seed))
    state, loss = train_epoch(state, examples)
    metrics = evaluate(state, examples)

Each is jitted and works under `jax.vmap` over states. `train_step` and `train_epoch` donate the state they are
given: its buffers are reused, so keep only the state they return.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import ScheduleFreeState, schedule_free_eval_params

from mnist_jax.errors import UserError
from mnist_jax.lessons import CLASSES, IMAGE_SHAPE, Lesson, check_batches
from mnist_jax.model import Network, check_images


class Examples(NamedTuple):
    """Images with their labels: a batch, or a whole split.

    Attributes:
      images: uint8 `[n, 28, 28]`, 0 for the background.
      labels: integers `[n]`, the digits 0 to 9.
    """

    images: Any
    labels: Any

    @property
    def size(self) -> int:
        """Number of examples; `len()` of a NamedTuple is its number of fields."""
        return len(self.labels)


class Metrics(NamedTuple):
    """Loss and correct predictions of a net on a whole split.

    Attributes:
      loss: mean cross-entropy in nats.
      correct: int32, number of correct predictions: a count, because no float32 is exactly 9,500 / 10,000.
    """

    loss: jax.Array
    correct: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that training changes or needs, as one PyTree.

    Attributes:
      params: the network's weights.
      batch_stats: running means and variances of batch norm; empty without it.
      opt_state: optax's state, with the traced hyperparameters in `opt_state.hyperparams`.
      order_key: key from which each epoch derives its order of examples.
      dropout_key: key from which each step derives its dropout masks.
      step: int32, number of steps taken.
      lesson: lesson that is trained; static.
    """

    params: Any
    batch_stats: Any
    opt_state: Any
    order_key: jax.Array
    dropout_key: jax.Array
    step: jax.Array
    lesson: Lesson = dataclasses.field(metadata={"static": True})


def check_dtype(lesson: Lesson) -> None:
    """Raise `UserError` if JAX would not compute in the lesson's dtype."""
    if jax.dtypes.canonicalize_dtype(lesson.dtype) != lesson.dtype:
        raise UserError("A lesson in float64 needs jax.enable_x64(True) around it, or JAX_ENABLE_X64=1.")


@functools.partial(jax.jit, static_argnames="lesson")
def init_state(
    lesson: Lesson, key: jax.Array, hyperparameters: Mapping[str, jax.typing.ArrayLike] | None = None
) -> TrainState:
    """The state before the first step.

    Args:
      lesson: lesson to train.
      key: a typed key, `jax.random.key(seed)`; independent keys for weights, order and dropout are split from it.
      hyperparameters: values, possibly traced, that replace those of the lesson's optimizer: a vmap over
        `{"learning_rate": rate}` trains a whole grid with one compilation.

    Raises:
      UserError: a hyperparameter that the lesson's optimizer does not have, a key that is not one typed key, or float64
        without jax_enable_x64.
    """
    numbers = {name: jnp.asarray(value, lesson.dtype) for name, value in (hyperparameters or {}).items()}
    state = init_net(lesson, key)
    return dataclasses.replace(state, opt_state=lesson.optimizer.transformation(numbers).init(state.params))


def init_net(lesson: Lesson, key: jax.Array) -> TrainState:
    """`init_state` without the optimizer's state: enough for a net that is only evaluated.

    Raises:
      UserError: a key that is not one typed key, or float64 without jax_enable_x64.
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape != ():
        raise UserError("The key must be one of `jax.random.key(seed)`; for several at once use jax.vmap.")
    check_dtype(lesson)
    params_key, order_key, dropout_key = jax.random.split(key, 3)
    variables = Network(lesson).init(params_key, jnp.zeros((1, *IMAGE_SHAPE), jnp.uint8), train=False)
    return TrainState(
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=(),
        order_key=order_key,
        dropout_key=dropout_key,
        step=jnp.zeros((), jnp.int32),
        lesson=lesson,
    )


def scheduled_rate(state: TrainState) -> jax.Array | None:
    """The learning rate of the latest step, one per state if states are stacked; None without a schedule."""
    if state.lesson.optimizer.schedule is None:
        return None
    return cast(jax.Array, state.opt_state.hyperparams["learning_rate"])


def one_hot(labels: jax.Array, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """`[n]` digits to `[n, 10]` rows: the digit 0 is [1 0 0 0 0 0 0 0 0 0], 1 is [0 1 0 0 0 0 0 0 0 0]."""
    return jax.nn.one_hot(labels, CLASSES, dtype=dtype)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy of `[n, 10]` logits with `[n]` digits, in nats: a scalar."""
    return optax.softmax_cross_entropy(logits, one_hot(labels, logits.dtype)).mean()


def batch_loss(params: Any, state: TrainState, batch: Examples) -> tuple[jax.Array, Any]:
    """The batch's mean training loss as a function of the parameters; `train_step` differentiates it.

    Returns:
      The loss, a scalar in nats, and batch norm's updated running statistics.
    """
    logits, updated = Network(state.lesson).apply(
        {"params": params, "batch_stats": state.batch_stats},
        batch.images,
        train=True,
        rngs={"dropout": jax.random.fold_in(state.dropout_key, state.step)},
        mutable=["batch_stats"],
    )
    chex.assert_shape(logits, (batch.size, CLASSES))
    return cross_entropy(logits, batch.labels), updated.get("batch_stats", {})


@functools.partial(jax.jit, donate_argnames="state")
def train_step(state: TrainState, batch: Examples) -> tuple[TrainState, jax.Array]:
    """One optimizer step on one batch of any size.

    Returns:
      The state after the step (the one given is donated), and the batch's mean loss before it, in nats.

    Raises:
      UserError: examples of the wrong shape or dtype, none at all, or with batch norm a single one.
    """
    _check(batch)
    (loss, batch_stats), grads = jax.value_and_grad(batch_loss, has_aux=True)(state.params, state, batch)

    def value(params: Any, obj_fn: object = None) -> jax.Array:
        del obj_fn  # line searches pass on arguments that they do not know; only Sophia uses this name
        return batch_loss(params, state, batch)[0]

    # Optax raises a traced float to the power of an int32 count, and multiplies a kernel by a vector of length 1.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        # Each optimizer takes what it needs: Polyak's step size the loss, line searches and Hessians the function.
        updates, opt_state = state.lesson.optimizer.transformation().update(
            grads, state.opt_state, state.params, value=loss, grad=grads, value_fn=value, obj_fn=value
        )
    state = dataclasses.replace(
        state,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        step=state.step + 1,
    )
    return state, loss


def epoch_order(key: jax.Array, n: int, length: int) -> jax.Array:
    """Indices into `n` examples, int32 `[length]`: one shuffled pass after another, the last cut short if necessary."""
    passes = -(-length // n)
    shuffled = jax.vmap(lambda k: jax.random.permutation(k, n))(jax.random.split(key, passes))
    return shuffled.reshape(-1)[:length]


@functools.partial(jax.jit, donate_argnames="state", static_argnames="length")
def train_epoch(state: TrainState, examples: Examples, length: int | None = None) -> tuple[TrainState, jax.Array]:
    """One epoch in one compiled call: shuffle, then a step for each batch.

    Args:
      state: state to train from; donated.
      examples: the whole training split, on the device.
      length: number of examples in the epoch; by default each example once.

    Returns:
      The state, and the mean over the drawn examples of the loss each had before its step, in nats. A last partial
      batch is a step of its own.

    Raises:
      UserError: examples of the wrong shape or dtype, none at all, or with batch norm a last batch of one.
    """
    _check(examples)
    order = _next_order(state, examples, length)
    state, total = _train_in_order(state, examples, order)
    return state, total / len(order)


@functools.partial(jax.jit, donate_argnames="state", static_argnames=("every", "length"))
def train_epoch_with_tests(
    state: TrainState, examples: Examples, test: Examples, every: int, length: int | None = None
) -> tuple[TrainState, jax.Array, Metrics]:
    """The epoch of `train_epoch`, evaluated along the way to see after how many steps a run reaches a target.

    Args:
      state: state to train from; donated.
      examples: the whole training split, on the device.
      test: examples to evaluate on.
      every: number of steps between evaluations.
      length: see `train_epoch`.

    Returns:
      The state, the mean loss as in `train_epoch`, and metrics `[steps // every]`, one after every `every` steps.

    Raises:
      UserError: see `train_epoch`; or `every` below 1.
    """
    _check(examples)
    if every < 1:
        raise UserError(f"At least 1 step must lie between two evaluations, not {every}.")
    order = _next_order(state, examples, length)
    span = every * state.lesson.batch_size
    tests = len(order) // span

    def part(state: TrainState, order: jax.Array) -> tuple[TrainState, tuple[jax.Array, Metrics]]:
        state, total = _train_in_order(state, examples, order)
        return state, (total, evaluate(state, test))

    state, (totals, metrics) = jax.lax.scan(part, state, order[: tests * span].reshape(tests, span))
    state, total = _train_in_order(state, examples, order[tests * span :])
    return state, (totals.sum() + total) / len(order), metrics


def _next_order(state: TrainState, examples: Examples, length: int | None) -> jax.Array:
    """The indices of the epoch that starts at this state."""
    length = examples.size if length is None else length
    if length < 1:
        raise UserError(f"An epoch must draw at least 1 example, not {length}.")
    check_batches(state.lesson, length)
    return epoch_order(jax.random.fold_in(state.order_key, state.step), examples.size, length)


def _train_in_order(state: TrainState, examples: Examples, order: jax.Array) -> tuple[TrainState, jax.Array]:
    """Take a step for each batch of `order`, a last partial one too; the state, and the sum of the examples' losses."""

    def batch(indices: jax.Array) -> Examples:
        return Examples(examples.images[indices], examples.labels[indices])

    def step(state: TrainState, indices: jax.Array) -> tuple[TrainState, jax.Array]:
        return train_step(state, batch(indices))

    size = state.lesson.batch_size
    whole, rest = divmod(len(order), size)
    state, losses = jax.lax.scan(step, state, order[: whole * size].reshape(whole, size))
    total = losses.sum() * size
    if rest:
        state, loss = train_step(state, batch(order[whole * size :]))
        total += loss * rest
    return state, total


def evaluation_params(state: TrainState) -> Any:
    """The parameters to evaluate a net with: the trained ones, unless the optimizer averages them.

    Optax's schedule-free optimizers take gradients at one point, and their result is another, an average (Defazio et
    al. 2024, arXiv:2405.15682).
    """

    def is_averaging(part: Any) -> bool:
        return isinstance(part, ScheduleFreeState)

    parts = filter(is_averaging, jax.tree.leaves(state.opt_state, is_leaf=is_averaging))
    with jax.numpy_dtype_promotion("standard"):  # the optimizer may keep them in another dtype
        return functools.reduce(lambda params, part: schedule_free_eval_params(part, params), parts, state.params)


@jax.jit
def logits(state: TrainState, images: jax.Array) -> jax.Array:
    """The network's outputs `[n, 10]` for images uint8 `[n, 28, 28]`: no dropout, running averages in batch norm.

    Raises:
      UserError: images of the wrong shape or dtype.
    """
    variables = {"params": evaluation_params(state), "batch_stats": state.batch_stats}
    return cast(jax.Array, Network(state.lesson).apply(variables, images, train=False))


@jax.jit
def predict(state: TrainState, images: jax.Array) -> jax.Array:
    """The digits with the highest output, int32 `[n]`, for images uint8 `[n, 28, 28]`; raises as `logits` does."""
    return logits(state, images).argmax(-1).astype(jnp.int32)


@jax.jit
def evaluate(state: TrainState, examples: Examples) -> Metrics:
    """Mean loss and number of correct predictions over every example, none dropped.

    Raises:
      UserError: examples of the wrong shape or dtype, or none at all.
    """
    _check(examples)
    outputs = logits(state, examples.images)
    correct = outputs.argmax(-1).astype(jnp.int32) == examples.labels.astype(jnp.int32)
    return Metrics(cross_entropy(outputs, examples.labels), correct.sum(dtype=jnp.int32))


def _check(examples: Examples) -> None:
    """Raise `UserError` unless shapes and dtypes are those of `Examples`; see `check_images`.

    The values of labels cannot be checked under jit: one that is not a digit adds nothing to the loss.
    """
    check_images(examples.images)
    labels, count = examples.labels, examples.images.shape[0]
    shape, dtype = getattr(labels, "shape", ()), getattr(labels, "dtype", np.dtype(object))
    if shape != (count,) or not jnp.issubdtype(dtype, jnp.integer):
        raise UserError(f"Labels of {count} images must be {count} integers; these are {dtype} of shape {shape}.")
    if count == 0:
        raise UserError("At least one example is needed.")
