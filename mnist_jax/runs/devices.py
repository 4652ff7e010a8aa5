"""Groups of runs on the devices: the compiled programs that train and evaluate them."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson, lesson_to_json
from mnist_jax.runs import sharding
from mnist_jax.runs.records import Run
from mnist_jax.runs.states import state_arrays, state_of_arrays
from mnist_jax.train import (
    Examples,
    Metrics,
    TrainState,
    evaluate,
    init_state,
    predict,
    train_epoch,
    train_epoch_with_tests,
)

# Bytes that all runs on one device may take if it reports no limit, as a CPU.
MOST_BYTES = 2**34

# Runs that one device trains side by side under vmap. A CPU is busy with one net, and slower per net with more. An
# H200 trains 12 times as many nets of `adam` per second with 128 side by side as with one, and hardly more with 512
# (experiments/results/speed_gpu). A TPU's number is a guess. `experiments/speed.py --gpu-study` measures what suits a
# device, to be given as `--side-by-side`.
SIDE_BY_SIDE = {"cpu": 1, "gpu": 128, "tpu": 32}

# For compiling an epoch. By default XLA copies a kernel on the CPU before each step that updates it in place, which
# takes a seventh of a lesson's time; region analysis shows that nothing reads it any more. It also uses half of each
# AVX-512 register: with whole registers an epoch of `adam` takes a sixth less time, of the others 5 to 8 % less.
COMPILER_OPTIONS = {"cpu": {"xla_cpu_copy_insertion_use_region_analysis": True, "xla_cpu_prefer_vector_width": 512}}


@dataclasses.dataclass(frozen=True)
class Placement:
    """How runs are put on devices.

    Attributes:
      side_by_side: runs that each device trains at a time; None chooses by backend and by what fits
        (`most_side_by_side`).
      devices_per_run: devices over which the hidden units of a run are split (`sharding`).
      devices: devices to use; None is all.
    """

    side_by_side: int | None = None
    devices_per_run: int = 1
    devices: tuple[jax.Device, ...] | None = None

    def usable(self) -> Sequence[jax.Device]:
        """`devices`, or else all devices of all processes."""
        return self.devices or jax.devices()

    def apart(self, runs: int, most: int) -> list["Placement"]:
        """Placements that share no device, for up to `most` lessons at a time, each with devices for `runs` runs.

        Only this placement if there are too few devices for two lessons, or several processes.
        """
        devices, size = self.usable(), runs * self.devices_per_run
        count = min(most, len(devices) // size) if jax.process_count() == 1 else 1
        if count < 2:
            return [self]
        groups = [tuple(devices[size * place : size * (place + 1)]) for place in range(count)]
        return [dataclasses.replace(self, devices=group) for group in groups]


def most_side_by_side(lesson: Lesson, data: Dataset) -> int:
    """The largest number of runs that one device can train at a time within `memory_limit`.

    It counts the weights, as much again each for the gradients and Adam's two moments, and the activations of an
    evaluation.
    """
    examples = max(largest_evaluation(data), lesson.batch_size)
    numbers = 4 * lesson.parameters + examples * lesson.activations
    return max(1, memory_limit() // (numbers * np.dtype(lesson.dtype).itemsize))


def memory_limit() -> int:
    """Bytes that all runs on one device may take: its own limit if it reports one, else `MOST_BYTES`."""
    return int((jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", MOST_BYTES))


def largest_evaluation(data: Dataset) -> int:
    """Number of images in the larger of the splits that runs are evaluated on."""
    return max(data.test.size, 0 if data.validation is None else data.validation.size)


def check_placement(placement: Placement, lesson: Lesson, data: Dataset, runs: int) -> None:
    """Raise `UserError` for runs side by side that do not fit, and devices that cannot share a net evenly."""
    side_by_side, devices_per_run = placement.side_by_side, placement.devices_per_run
    if side_by_side is not None and side_by_side < 1:
        raise UserError(f"At least 1 run per device must be trained at a time, not {side_by_side}.")
    if min(side_by_side or 1, runs) > (most := most_side_by_side(lesson, data)):
        raise UserError(f"At most {most:,} runs of this net fit on a device side by side; train fewer at a time.")
    count = len(placement.usable())
    if devices_per_run < 1 or count % devices_per_run:
        raise UserError(f"The {count} devices cannot be split into groups of {devices_per_run}.")
    if devices_per_run > 1 and not sharding.divides(lesson, devices_per_run):
        widths = " and ".join(map(str, lesson.hidden[::2])) or "no"
        raise UserError(f"Layers of {widths} hidden units cannot be split evenly over {devices_per_run} devices.")


class Trainer:
    """The compiled programs that train groups of runs of one lesson.

    Args:
      lesson: lesson to train.
      data: training data.
      runs: all runs that will be trained, in groups of `width`.
      placement: how runs are placed on devices.
      test_every: see `train_runs`.

    Attributes:
      width: number of runs in a group.
      tells_right: whether a run's last epoch records which test images are right.
    """

    def __init__(
        self,
        lesson: Lesson,
        data: Dataset,
        runs: Sequence[Run],
        placement: Placement = Placement(),
        *,
        test_every: int | None = None,
    ) -> None:
        devices_per_run = placement.devices_per_run
        # A process without a device in the mesh could not run its programs: several processes use all devices.
        usable = placement.usable()
        useful = len(usable) if jax.process_count() > 1 else len(runs) * devices_per_run
        devices = np.array(usable[:useful]).reshape(-1, devices_per_run)
        self.tells_right = test_every is not None
        self._what = [lesson_to_json(lesson), data.describe(), test_every]
        self._mesh = Mesh(devices, ("run", sharding.AXIS))
        self._platform = devices[0, 0].platform
        at_most = placement.side_by_side or min(SIDE_BY_SIDE[self._platform], most_side_by_side(lesson, data))
        self.width = len(devices) * min(at_most, math.ceil(len(runs) / len(devices)))
        self._train, self._validation, self._test = jax.device_put(
            (data.train, data.validation, data.test), NamedSharding(self._mesh, PartitionSpec())
        )
        split = sharding.split if devices_per_run > 1 else _as_it_is

        def start(run: tuple[jax.Array, dict[str, jax.Array]]) -> TrainState:
            seed, hyperparameters = run
            return split(init_state(lesson, jax.random.key(seed), hyperparameters))

        def epoch(state: TrainState, train: Examples, test: Examples) -> tuple[TrainState, jax.Array, jax.Array]:
            state = split(state)
            if test_every is None:
                return *train_epoch(state, train, data.epoch_length), jnp.zeros(0, jnp.int32)
            state, loss, tests = train_epoch_with_tests(state, train, test, test_every, data.epoch_length)
            return state, loss, tests.correct

        self._start = _grouped(start, self._mesh)
        self._split = _grouped(split, self._mesh)
        self._evaluate = _grouped(evaluate, self._mesh, shared=1)
        self._right = _grouped(_right, self._mesh, shared=1)
        self._epoch = _grouped(epoch, self._mesh, shared=2, donate=True)
        self._compiled: Any = None

    def name(self, group: Sequence[Run]) -> str:
        """Name for a group's checkpoints, the same wherever training gives the same results to the last bit.

        Or up to rounding, if a run is split over another number of devices: it may continue there.
        """
        shape = [len(self._mesh.devices), self.width]
        what = [*self._what, shape, [dataclasses.asdict(run) for run in group]]
        return f"seed-{group[0].seed}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]}"

    def start(self, group: Sequence[Run]) -> TrainState:
        """The states before the first step of at most `width` runs, leaves `[width, ...]`."""
        # A smaller group is filled up with copies, whose results are not used, so that one program fits all.
        return self._start(_stacked([*group, *[group[-1]] * (self.width - len(group))], self._mesh))

    def epoch(self, states: TrainState) -> tuple[TrainState, jax.Array, jax.Array]:
        """Train for an epoch; the first call compiles, unless `compile` was called.

        Args:
          states: the group's states; donated.

        Returns:
          The states, each run's mean loss `[width]` in nats, and the number of test images it had right along the way,
          int32 `[width, tests]`.
        """
        if not self.is_compiled:
            self.compile(states)
        return self._compiled(states, self._train, self._test)

    @property
    def is_compiled(self) -> bool:
        """Whether `epoch` runs without compiling first."""
        return self._compiled is not None

    def compile(self, states: TrainState, options: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Compile the epoch for states like these, with `options` of XLA in addition to ours."""
        lowered = self._epoch.lower(states, self._train, self._test)
        self._compiled = lowered.compile(compiler_options={**COMPILER_OPTIONS.get(self._platform, {}), **options})

    def memory(self, states: TrainState) -> int:
        """Bytes that XLA plans per device for the compiled epoch or for evaluating such states, whichever is larger."""
        plans = [
            compiled.memory_analysis()
            for compiled in (self._compiled, self._evaluate.lower(states, self._test).compile())
        ]
        return max(
            plan.argument_size_in_bytes
            + plan.output_size_in_bytes
            - plan.alias_size_in_bytes  # outputs in the place of donated arguments
            + plan.temp_size_in_bytes
            for plan in plans
        )

    def evaluate(self, states: TrainState) -> tuple[Metrics, Metrics | None]:
        """Each run's metrics on the test and on the validation split, if there is one: leaves `[width]`."""
        validated = None if self._validation is None else self._evaluate(states, self._validation)
        return self._evaluate(states, self._test), validated

    def right(self, states: TrainState) -> jax.Array:
        """Which test images each run classifies correctly, bool `[width, images]`."""
        return self._right(states, self._test)

    def arrays(self, states: TrainState, count: int) -> dict[str, np.ndarray]:
        """What a checkpoint holds: the `state_arrays` of the group's `count` runs, without copies that fill it up."""
        return {name: array[:count] for name, array in fetched(state_arrays(states)).items()}

    def restored(self, states: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
        """States of the form of `states` with the values of `arrays`; a smaller group is filled up as in `start`.

        Raises:
          UserError: see `state_of_arrays`.
        """
        rows = NamedSharding(self._mesh, PartitionSpec("run"))
        filled = {
            name: np.concatenate([array, np.repeat(array[-1:], max(self.width - len(array), 0), axis=0)])
            for name, array in zip(arrays, map(np.atleast_1d, arrays.values()), strict=True)
        }
        return self._split(state_of_arrays(filled, like=states, place=lambda array: jax.device_put(array, rows)))


def on_device(data: Dataset) -> Dataset:
    """The data set with its training and test arrays on the first device, to be shared by what trains there."""
    return dataclasses.replace(data, train=jax.device_put(data.train), test=jax.device_put(data.test))


def fetched(tree: Any) -> Any:
    """The arrays of a whole group as numpy arrays, whichever process computed them."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def _right(state: TrainState, examples: Examples) -> jax.Array:
    return predict(state, examples.images) == examples.labels.astype(jnp.int32)


def _as_it_is(state: TrainState) -> TrainState:
    return state


def _stacked(runs: Sequence[Run], mesh: Mesh) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Seeds and hyperparameters of a group, one row per run, each row on its device."""
    seeds = np.array([run.seed for run in runs], np.uint32)
    rows = [dict(run.hyperparameters) for run in runs]
    # `init_state` casts them to the lesson's dtype; several processes compare them as they are on the device.
    kind = jax.dtypes.canonicalize_dtype(float)
    values = {name: np.array([row[name] for row in rows], kind) for name in rows[0]}
    return jax.device_put((seeds, values), NamedSharding(mesh, PartitionSpec("run")))


def _grouped(function: Callable[..., Any], mesh: Mesh, *, shared: int = 0, donate: bool = False) -> Any:
    """Turn a function of one run into one of a group, whose rows are split over the devices and mapped on each.

    Args:
      function: function whose first argument belongs to one run.
      mesh: mesh with an axis `run`; any other axis is left to the compiler.
      shared: number of further arguments, which all runs share.
      donate: whether the first argument is donated.
    """
    rows, whole = PartitionSpec("run"), PartitionSpec()

    @functools.wraps(function)  # its name is the program's, in profiles and in the cache
    def mapped(group: Any, *rest: Any) -> Any:
        if len(jax.tree.leaves(group)[0]) > 1:
            return jax.vmap(function, in_axes=(0, *[None] * shared))(group, *rest)
        # XLA compiles products with a batch axis of 1 to code that is up to twice as slow on a CPU.
        alone = function(jax.tree.map(lambda leaf: leaf[0], group), *rest)
        return jax.tree.map(lambda leaf: leaf[None], alone)

    return jax.jit(
        jax.shard_map(
            mapped,
            mesh=mesh,
            in_specs=(rows, *[whole] * shared),
            out_specs=rows,
            axis_names={"run"},
            check_vma=False,
        ),
        donate_argnums=(0,) if donate else (),
    )
