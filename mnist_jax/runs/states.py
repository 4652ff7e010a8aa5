"""States as named arrays, as a checkpoint holds them, and back."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import ScheduleFreeState

from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson
from mnist_jax.train import TrainState, evaluation_params, init_net

_OPTIMIZER = "opt_state."
_AVERAGING = ".weight_sum"  # name of an array of every `ScheduleFreeState`


def state_arrays(state: TrainState) -> dict[str, jax.Array]:
    """A state's leaves by name, `params.fc1.kernel`; random keys as their data, `order_key.threefry2x32`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    impl = str(jax.random.key_impl(state.order_key))
    return {_name(path, leaf, impl): jax.random.key_data(leaf) if _is_key(leaf) else leaf for path, leaf in leaves}


def net_of_arrays(arrays: Mapping[str, np.ndarray], lesson: Lesson, seed: int) -> TrainState:
    """The net in a state's `state_arrays`, with the parameters to evaluate it with.

    The optimizer is not looked up, and need not exist; the names of its arrays show whether it averages parameters.

    Args:
      arrays: name -> array.
      lesson: lesson of the net.
      seed: seed of the run.

    Raises:
      UserError: see `state_of_arrays`.
    """
    # Keys of the run's own kind, whatever this process uses: no result depends on them any more.
    try:
        key = jax.random.key(seed, impl=_key_impl(arrays))
    except ValueError as error:  # this JAX has none of that name
        raise other_version() from error
    like = jax.eval_shape(functools.partial(init_net, lesson), key)
    own = {name: array for name, array in arrays.items() if not name.startswith(_OPTIMIZER)}
    state = state_of_arrays(own, like)
    names = jax.tree_util.tree_map_with_path(lambda path, leaf: _name(path, leaf, ""), like.params)
    others = ["b1", "max_lr", "step_count", *(f"z.{name}" for name in jax.tree.leaves(names))]
    averaging = tuple(
        ScheduleFreeState(
            b1=arrays[f"{part}.b1"],
            z=jax.tree.map(lambda name, part=part: jnp.asarray(arrays[f"{part}.z.{name}"]), names),
            **dict.fromkeys(("weight_sum", "step_count", "max_lr", "base_optimizer_state")),
        )
        for part in (name.removesuffix(_AVERAGING) for name in arrays if name.endswith(_AVERAGING))
        if all(f"{part}.{other}" in arrays for other in others)
    )
    params = evaluation_params(dataclasses.replace(state, opt_state=averaging))
    return dataclasses.replace(state, params=params)


def _key_impl(arrays: Mapping[str, Any]) -> str:
    return next((name.removeprefix("order_key.") for name in arrays if name.startswith("order_key.")), "")


def state_of_arrays(
    arrays: Mapping[str, np.ndarray], like: TrainState, place: Callable[[np.ndarray], jax.Array] = jnp.asarray
) -> TrainState:
    """The state with these `state_arrays`.

    Args:
      arrays: name -> array.
      like: a state of the same shapes, or its `jax.eval_shape`.
      place: puts an array on its devices.

    Raises:
      UserError: names, shapes, dtypes or the random keys' implementation differ.
    """

    def form(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {name: (array.shape, array.dtype) for name, array in arrays.items()}

    expected = jax.eval_shape(state_arrays, like)
    impl, own = _key_impl(arrays), _key_impl(expected)
    if impl and impl != own:
        raise UserError(
            f"The checkpoint's random keys are of {impl}, not {own}; set JAX_DEFAULT_PRNG_IMPL={impl} to continue its "
            "training."
        )
    if form(arrays) != form(expected):
        raise other_version()

    def leaf(path: Any, old: jax.Array) -> jax.Array:
        array = place(arrays[_name(path, old, impl)])
        return jax.random.wrap_key_data(array, impl=impl) if _is_key(old) else array

    return jax.tree_util.tree_map_with_path(leaf, like)


def other_version() -> UserError:
    """The error for arrays of other names, shapes or dtypes."""
    return UserError("The checkpoint is of another version of this program; train again in another folder.")


def _name(path: Any, leaf: jax.Array, impl: str) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return f"{name}.{impl}" if _is_key(leaf) else name


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
