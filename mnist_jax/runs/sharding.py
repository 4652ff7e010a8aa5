"""One run on several devices, each of which has some of the hidden units.

Hidden layers go in pairs, as in Megatron (Shoeybi et al. 2019, arXiv:1909.08053): the first of a pair is split by its
units, which do not depend on each other, batch norm and activation included; the next by its inputs, which are those
units, so that the devices' shares of its outputs are added. What an optimizer keeps per weight, such as moments, is
split like the weights if it has their shape. The compiler does the rest.
"""

import re
from typing import Any

import jax
from jax.sharding import PartitionSpec

from mnist_jax.lessons import Lesson
from mnist_jax.train import TrainState

AXIS = "hidden"  # the mesh's axis


def split(state: TrainState) -> TrainState:
    """The state with its arrays split over `AXIS` of the mesh around this call; values do not change."""

    def placed(path: Any, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return jax.lax.with_sharding_constraint(leaf, _spec(name, leaf.shape, state.lesson.hidden))

    return jax.tree_util.tree_map_with_path(placed, state)


def _spec(name: str, shape: tuple[int, ...], hidden: tuple[int, ...]) -> PartitionSpec:
    """How the array `name` of a state, such as `params.fc1.kernel`, is split; one without an axis of units is not."""
    found = re.search(r"(?:fc|batch_norm)(\d+)\.\w+$", name)
    if found is None or not shape:
        return PartitionSpec()
    layer, units = int(found[1]), dict(enumerate(hidden, start=1))
    if layer % 2 and shape[-1] == units.get(layer):  # by units, which are the last axis of kernels and biases
        return PartitionSpec(*[None] * (len(shape) - 1), AXIS)
    if layer % 2 == 0 and len(shape) == 2 and shape[0] == units.get(layer - 1):
        return PartitionSpec(AXIS, None)
    return PartitionSpec()


def divides(lesson: Lesson, count: int) -> bool:
    """Whether all layers that are split by units can be split evenly over this many devices."""
    return bool(lesson.hidden) and all(width % count == 0 for width in lesson.hidden[::2])
