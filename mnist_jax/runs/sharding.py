"""One run on several devices, each of which has some of the hidden units.

Hidden layers go in pairs, as in Megatron (Shoeybi et al. 2019, arXiv:1909.08053): the first of a pair is split by its
units, each of which needs nothing of the others, batch norm and activation included; the next by its inputs, which are
those units, so that the devices' shares of its outputs are added. What is kept of a weight, as an optimizer's moments,
is split as the weight. The compiler does the rest.
"""

import re
from typing import Any

import jax
from jax.sharding import PartitionSpec

from mnist_jax.lessons import Lesson
from mnist_jax.train import TrainState

AXIS = "hidden"  # of the mesh


def split(state: TrainState) -> TrainState:
    """The state with its arrays split over `AXIS` of the mesh around this call; values stay as they are."""
    layers = len(state.lesson.hidden)

    def placed(path: Any, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return jax.lax.with_sharding_constraint(leaf, _spec(name, leaf.ndim, layers))

    return jax.tree_util.tree_map_with_path(placed, state)


def _spec(name: str, dimensions: int, layers: int) -> PartitionSpec:
    """How an array of a state is split, `params.fc1.kernel`; of so many hidden layers the last may have no partner."""
    found = re.search(r"(fc|batch_norm)(\d+)\.\w+$", name)
    if found is None or dimensions == 0:
        return PartitionSpec()
    kind, layer = found[1], int(found[2])
    if layer % 2 and layer <= layers:  # by units, which are the last dimension of kernels and biases
        return PartitionSpec(*[None] * (dimensions - 1), AXIS)
    if layer % 2 == 0 and kind == "fc" and dimensions == 2:
        return PartitionSpec(AXIS, None)
    return PartitionSpec()


def divides(lesson: Lesson, count: int) -> bool:
    """Whether the layers that are split by units can be, evenly, over so many devices."""
    return bool(lesson.hidden) and all(width % count == 0 for width in lesson.hidden[::2])
