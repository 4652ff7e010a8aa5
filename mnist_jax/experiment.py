"""Runs of a lesson: the loop over epochs, side by side where that is faster, and what is recorded of it."""

import dataclasses
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mnist_jax.checkpoints import Checkpoints
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson, check_activations, check_batches
from mnist_jax.optimizers import is_whole
from mnist_jax.train import Examples, Metrics, TrainState, evaluate, init_state, train_epoch, train_epoch_with_tests

EPOCHS = 10  # as in the notebooks
MOST_SEEDS = 10_000  # of a study; more is a slip of the finger
MOST_STEPS = 2**31 - 1  # of a run: an int32 counts them

# Of all runs that one device trains side by side: their weights, as much again three times for the gradients and Adam,
# and the activations of an evaluation; 16 GB in float32.
MOST_NUMBERS = 2**32

# Runs that one device trains side by side under vmap. A CPU is busy with one net, and slower a net with more; a GPU
# or TPU is idle with one. This many take about 2 GB to evaluate (by the sizes of their activations).
SIDE_BY_SIDE = {"cpu": 1, "gpu": 32, "tpu": 32}

# Of an epoch. By default XLA copies a kernel on the CPU before each step that updates it in place, which takes a
# seventh of a lesson's time; regions of the program's order show that nothing reads it any more.
COMPILER_OPTIONS = {"cpu": {"xla_cpu_copy_insertion_use_region_analysis": True}}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of a lesson.

    Attributes:
      seed: of initial weights, order and dropout.
      hyperparameters: (name, value) pairs in place of the lesson's optimizer's; they are traced, so another value
        compiles nothing.
    """

    seed: int
    hyperparameters: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One finished epoch of one run.

    Attributes:
      run: which.
      number: from 1.
      train_loss: mean over the epoch of each example's cross-entropy before its step, in nats, with dropout.
      test_loss: on the test split, in nats.
      test_correct: test images classified correctly.
      validation_correct: the same of validation images; None without a validation split.
      seconds: of training, without compilation and evaluation; of runs side by side each gets an equal share.
      tests: `test_correct` along the way, after every `test_every` steps of this epoch.
    """

    run: Run
    number: int
    train_loss: float
    test_loss: float
    test_correct: int
    validation_correct: int | None
    seconds: float
    tests: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All but the run."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "run"}

    @classmethod
    def of_json(cls, run: Run, values: Mapping[str, Any]) -> "Epoch":
        """The epoch of which `values` is `as_json()`."""
        return cls(run=run, **{**values, "tests": tuple(values["tests"])})

    @property
    def diverged(self) -> bool:
        """Whether a loss is no longer finite; such a run ends here."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.test_loss))


def train_lesson(
    lesson: Lesson, data: Dataset, *, seeds: Sequence[int], epochs: int = EPOCHS, **rest: Any
) -> Iterator[Epoch]:
    """Train one run per seed; `rest` are further arguments of `train_runs`."""
    check_run(lesson, data, seeds=seeds, epochs=epochs)  # before a list of a billion seeds is made
    return train_runs(lesson, data, [Run(seed) for seed in seeds], epochs=epochs, **rest)


def train_runs(
    lesson: Lesson,
    data: Dataset,
    runs: Sequence[Run],
    *,
    done: Collection[Run] = (),
    epochs: int = EPOCHS,
    side_by_side: int | None = None,
    devices_per_run: int = 1,
    test_every: int | None = None,
    checkpoints: Checkpoints | None = None,
) -> Iterator[Epoch]:
    """Train all runs with one compiled program, and yield each run's epoch as it ends.

    Runs go in groups: `side_by_side` of them under `jax.vmap` on each of `jax.devices()`, those of all processes. Every
    process gets every epoch. A group always trains whole: the number of runs side by side changes the last digits.

    Args:
      lesson: lesson to train.
      data: training data.
      runs: which seeds and hyperparameters.
      done: those of `runs` whose epochs are known; they are not yielded, and groups of nothing else not trained.
      epochs: of each run; one that diverges ends with the epoch in which it did.
      side_by_side: runs on one device at a time; None chooses by backend and by what fits (`most_side_by_side`).
      devices_per_run: how many devices share each batch of a run; worth it for large batches only.
      test_every: evaluate on the test split after every so many steps too.
      checkpoints: where groups under way are kept; a group that is found there continues from its newest checkpoint,
        and its epochs before that are yielded again.

    Raises:
      UserError: no epochs, no runs, a seed that is not 0 to 2^32-1, a hyperparameter that the optimizer lacks or
        that is out of its range, a batch larger than the training data, devices that cannot share it evenly, or more
        runs side by side than fit.
    """
    check_run(
        lesson,
        data,
        seeds=[run.seed for run in runs],
        epochs=epochs,
        side_by_side=side_by_side,
        devices_per_run=devices_per_run,
    )
    for run in runs:
        lesson.optimizer.check(dict(run.hyperparameters))
    if len({tuple(name for name, _ in run.hyperparameters) for run in runs}) > 1:
        raise ValueError("All runs must give the same hyperparameters; their values may differ.")
    trainer = Trainer(
        lesson, data, runs, side_by_side=side_by_side, devices_per_run=devices_per_run, test_every=test_every
    )
    return _train_runs(trainer, runs, frozenset(done), epochs, checkpoints)


def check_run(
    lesson: Lesson,
    data: Dataset,
    *,
    seeds: Sequence[int],
    epochs: int,
    side_by_side: int | None = None,
    devices_per_run: int = 1,
) -> None:
    """Raise what `train_runs` would, before anything slow."""
    if epochs < 1:
        raise UserError(f"The number of epochs must be at least 1, not {epochs}.")
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise UserError(f"The number of seeds must be 1 to {MOST_SEEDS:,}, not {len(seeds):,}.")
    if not all(is_whole(seed) and 0 <= seed < 2**32 for seed in seeds):
        raise UserError(f"Seeds must be Python ints from 0 to {2**32 - 1}.")
    if side_by_side is not None and side_by_side < 1:
        raise UserError(f"At least 1 run a device must be trained at a time, not {side_by_side}.")
    if lesson.batch_size > data.train.size:
        raise UserError(
            f"A batch of {lesson.batch_size} is larger than the {data.train.size} training images; "
            "make it smaller or use more data."
        )
    check_batches(lesson, data.epoch_length)
    check_activations(lesson, _largest_evaluation(data))
    if min(side_by_side or 1, len(seeds)) > (most := most_side_by_side(lesson, data)):
        raise UserError(f"At most {most:,} runs of this net fit on a device side by side; train fewer at a time.")
    if epochs * math.ceil(data.epoch_length / lesson.batch_size) > MOST_STEPS:
        raise UserError(f"A run may take at most {MOST_STEPS:,} steps; train fewer epochs.")
    count = len(jax.devices())
    if devices_per_run < 1 or count % devices_per_run:
        raise UserError(f"The {count} devices cannot be split into groups of {devices_per_run}.")
    if lesson.batch_size % devices_per_run:
        raise UserError(f"A batch of {lesson.batch_size} cannot be split evenly over {devices_per_run} devices.")


def most_side_by_side(lesson: Lesson, data: Dataset) -> int:
    """How many runs one device trains at a time, at most (`MOST_NUMBERS`)."""
    examples = max(_largest_evaluation(data), lesson.batch_size)
    return max(1, MOST_NUMBERS // (4 * lesson.parameters + examples * lesson.activations))


def _largest_evaluation(data: Dataset) -> int:
    """Images of the larger of the splits that runs are evaluated on."""
    return max(data.test.size, 0 if data.validation is None else data.validation.size)


def _train_runs(
    trainer: "Trainer", runs: Sequence[Run], done: Set[Run], epochs: int, checkpoints: Checkpoints | None
) -> Iterator[Epoch]:
    for first in range(0, len(runs), trainer.width):
        group = runs[first : first + trainer.width]
        kept = None if checkpoints is None else checkpoints.of(trainer.name(group))
        if not done >= set(group):
            for ended in _train_group(trainer, group, epochs, kept):
                yield from (epoch for epoch in ended if epoch.run not in done)
        if kept is not None:
            kept.finish()


def _train_group(
    trainer: "Trainer", group: Sequence[Run], epochs: int, kept: Checkpoints | None
) -> Iterator[list[Epoch]]:
    """The epochs of a group's runs that had not diverged before, from its newest checkpoint on."""
    states, past = trainer.start(group), list[list[Epoch]]()
    if kept is not None and (found := kept.newest()) is not None:
        states, past = trainer.restored(states, found.arrays), _past(group, found.history)
    diverged: set[Run] = set()
    for number in range(1, epochs + 1):
        is_new = number > len(past)
        if is_new:
            states, ended = _train_epoch(trainer, states, group, number)
            past.append(ended)
        before = frozenset(diverged)
        diverged |= {epoch.run for epoch in past[number - 1] if epoch.diverged}
        is_over = diverged >= set(group)
        if is_new and kept is not None and (is_over or kept.is_due(number, epochs)):
            kept.save(number, trainer.arrays(states, len(group)), history(group, past))
        yield [epoch for epoch in past[number - 1] if epoch.run not in before]
        if is_over:
            break


def _train_epoch(
    trainer: "Trainer", states: TrainState, group: Sequence[Run], number: int
) -> tuple[TrainState, list[Epoch]]:
    """Train a group for its epoch `number`, and evaluate it."""
    if not trainer.is_compiled:
        trainer.compile(states)
    began = time.perf_counter()
    # A copy between host and device that nobody asked for would be a bug: fail, do not slow down.
    with jax.transfer_guard("disallow"):
        states, loss, tests = trainer.epoch(states)
        loss.block_until_ready()
        seconds = time.perf_counter() - began
        tested, validated = trainer.evaluate(states)
    loss, tests, tested, validated = _fetched((loss, tests, tested, validated))
    return states, [
        Epoch(
            run=run,
            number=number,
            train_loss=float(loss[i]),
            test_loss=float(tested.loss[i]),
            test_correct=int(tested.correct[i]),
            validation_correct=None if validated is None else int(validated.correct[i]),
            seconds=seconds / len(group),
            tests=tuple(map(int, tests[i])),
        )
        for i, run in enumerate(group)
    ]


def history(group: Sequence[Run], past: Sequence[Sequence[Epoch]]) -> dict[str, Any]:
    """What a checkpoint says of its arrays: whose rows they are, and each run's metrics after each epoch so far."""
    return {
        "seeds": [run.seed for run in group],
        "epochs": [[epoch.as_json() for epoch in ended] for ended in past],
    }


def _past(group: Sequence[Run], history: Any) -> list[list[Epoch]]:
    """The epochs of a `history`."""
    try:
        return [
            [Epoch.of_json(run, values) for run, values in zip(group, ended, strict=True)]
            for ended in history["epochs"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _other_version() from error


class Trainer:
    """The compiled programs that train groups of runs of one lesson.

    Args:
      lesson: lesson to train.
      data: training data.
      runs: all that will be trained, in groups of `width`; hyperparameters of other names compile again.
      side_by_side: see `train_runs`.
      devices_per_run: see `train_runs`.
      test_every: see `train_runs`.

    Attributes:
      width: runs in a group.
    """

    def __init__(
        self,
        lesson: Lesson,
        data: Dataset,
        runs: Sequence[Run],
        *,
        side_by_side: int | None = None,
        devices_per_run: int = 1,
        test_every: int | None = None,
    ) -> None:
        # A process without a part in the mesh could not run its programs: several processes use all their devices.
        useful = len(jax.devices()) if jax.process_count() > 1 else len(runs) * devices_per_run
        devices = np.array(jax.devices()[:useful]).reshape(-1, devices_per_run)
        self._what = [dataclasses.asdict(lesson), data.describe(), test_every]
        self._mesh = Mesh(devices, ("run", "batch"))
        self._platform = devices[0, 0].platform
        at_most = side_by_side or min(SIDE_BY_SIDE[self._platform], most_side_by_side(lesson, data))
        self.width = len(devices) * min(at_most, math.ceil(len(runs) / len(devices)))
        self._train, self._validation, self._test = jax.device_put(
            (data.train, data.validation, data.test), NamedSharding(self._mesh, PartitionSpec())
        )
        batch_axis = "batch" if devices_per_run > 1 else None

        def start(run: tuple[jax.Array, dict[str, jax.Array]]) -> TrainState:
            seed, hyperparameters = run
            return init_state(lesson, jax.random.key(seed), hyperparameters)

        def epoch(state: TrainState, train: Examples, test: Examples) -> tuple[TrainState, jax.Array, jax.Array]:
            if test_every is None:
                return *train_epoch(state, train, data.epoch_length, batch_axis), jnp.zeros(0, jnp.int32)
            state, loss, tests = train_epoch_with_tests(state, train, test, test_every, data.epoch_length, batch_axis)
            return state, loss, tests.correct

        self._start = _grouped(start, self._mesh)
        self._evaluate = _grouped(evaluate, self._mesh, shared=1)
        self._epoch = _grouped(epoch, self._mesh, shared=2, donate=True)
        self._compiled: Any = None

    def name(self, group: Sequence[Run]) -> str:
        """Of a group's checkpoints: the same only where training would give the same to the last bit."""
        shape = [*self._mesh.devices.shape, self.width]
        what = [*self._what, shape, [dataclasses.asdict(run) for run in group]]
        return f"seed-{group[0].seed}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]}"

    @property
    def is_compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled is not None

    def start(self, group: Sequence[Run]) -> TrainState:
        """The states before the first step of at most `width` runs, leaves `[width, ...]`."""
        # A smaller group is filled up with copies, whose results are not used, so that one program fits all.
        return self._start(_stacked([*group, *[group[-1]] * (self.width - len(group))], self._mesh))

    def epoch(self, states: TrainState) -> tuple[TrainState, jax.Array, jax.Array]:
        """Train for an epoch.

        Args:
          states: of a group; donated.

        Returns:
          The states, each run's mean loss `[width]`, and its correct test images along the way `[width, tests]`.
        """
        return self._compiled(states, self._train, self._test)

    def compile(self, states: TrainState) -> None:
        """Compile the epoch for states like these, before the first."""
        lowered = self._epoch.lower(states, self._train, self._test)
        self._compiled = lowered.compile(compiler_options=COMPILER_OPTIONS.get(self._platform))

    def evaluate(self, states: TrainState) -> tuple[Metrics, Metrics | None]:
        """Each run's metrics on the test and on the validation split, if there is one: leaves `[width]`."""
        validated = None if self._validation is None else self._evaluate(states, self._validation)
        return self._evaluate(states, self._test), validated

    def arrays(self, states: TrainState, count: int) -> dict[str, np.ndarray]:
        """The states of a group of `count` runs by name, random keys as their data: what a checkpoint holds."""
        return {name: array[:count] for name, array in _fetched(state_arrays(states)).items()}

    def restored(self, states: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
        """States like these, of which `arrays` are the values; a smaller group is filled up as in `start`.

        Raises:
          UserError: they are of other states.
        """
        rows = NamedSharding(self._mesh, PartitionSpec("run"))
        filled = {
            name: np.concatenate([array, np.repeat(array[-1:], max(self.width - len(array), 0), axis=0)])
            for name, array in zip(arrays, map(np.atleast_1d, arrays.values()), strict=True)
        }
        return state_of_arrays(filled, like=states, place=lambda array: jax.device_put(array, rows))


def on_device(data: Dataset) -> Dataset:
    """The same with its training and test arrays on the first device, where what trains on them there shares them."""
    return dataclasses.replace(data, train=jax.device_put(data.train), test=jax.device_put(data.test))


def state_arrays(state: TrainState) -> dict[str, jax.Array]:
    """A state's leaves by name, `params.fc1.kernel`; random keys as their data, `order_key.threefry2x32`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    impl = str(jax.random.key_impl(state.order_key))
    return {_name(path, leaf, impl): jax.random.key_data(leaf) if _is_key(leaf) else leaf for path, leaf in leaves}


def key_of_arrays(arrays: Mapping[str, Any], seed: int) -> jax.Array:
    """`jax.random.key(seed)` of the implementation that the random keys among `state_arrays` have.

    Raises:
      UserError: this JAX has none of that name.
    """
    try:
        return jax.random.key(seed, impl=_key_impl(arrays))
    except ValueError as error:
        raise _other_version() from error


def _key_impl(arrays: Mapping[str, Any]) -> str:
    return next((name.removeprefix("order_key.") for name in arrays if name.startswith("order_key.")), "")


def state_of_arrays(
    arrays: Mapping[str, np.ndarray], like: TrainState, place: Callable[[np.ndarray], jax.Array] = jnp.asarray
) -> TrainState:
    """The state whose `state_arrays` these are.

    Args:
      arrays: name -> array.
      like: a state of the same shapes, or its `jax.eval_shape`.
      place: puts an array on its devices.

    Raises:
      UserError: names, shapes, dtypes or the random keys' implementation are others.
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
        raise _other_version()

    def leaf(path: Any, old: jax.Array) -> jax.Array:
        array = place(arrays[_name(path, old, impl)])
        return jax.random.wrap_key_data(array, impl=impl) if _is_key(old) else array

    return jax.tree_util.tree_map_with_path(leaf, like)


def _other_version() -> UserError:
    return UserError("The checkpoint is of another version of this program; train again in another folder.")


def _name(path: Any, leaf: jax.Array, impl: str) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return f"{name}.{impl}" if _is_key(leaf) else name


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _fetched(tree: Any) -> Any:
    """Arrays of a group as numpy arrays, all of it, whichever process computed it."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def _stacked(runs: Sequence[Run], mesh: Mesh) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Seeds and hyperparameters of a group, one a row, each row on its device."""
    seeds = np.array([run.seed for run in runs], np.uint32)
    rows = [dict(run.hyperparameters) for run in runs]
    # `init_state` casts them to the lesson's dtype; several processes compare them as they are on the device.
    kind = jax.dtypes.canonicalize_dtype(float)
    values = {name: np.array([row[name] for row in rows], kind) for name in rows[0]}
    return jax.device_put((seeds, values), NamedSharding(mesh, PartitionSpec("run")))


def _grouped(function: Callable[..., Any], mesh: Mesh, *, shared: int = 0, donate: bool = False) -> Any:
    """A function of one run as a function of a group: its rows split over the devices, mapped on each.

    Args:
      function: its first argument is of one run, the next `shared` are the same for all.
      mesh: with an axis `run`; what else it has is left to the compiler.
      shared: how many arguments are.
      donate: the first argument.
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


def run_record(epochs: Sequence[Epoch]) -> dict[str, Any]:
    """All of one run, for a journal: a number an epoch; what is not finite is null."""

    def curve(field: str) -> list[float | None]:
        return [_finite(getattr(epoch, field)) for epoch in epochs]

    validated = all(epoch.validation_correct is not None for epoch in epochs)
    return {
        "seed": epochs[0].run.seed,
        "test_correct": curve("test_correct"),
        "test_loss": curve("test_loss"),
        "train_loss": curve("train_loss"),
        **({"validation_correct": curve("validation_correct")} if validated else {}),
        "seconds": curve("seconds"),
        **({"tests": [list(epoch.tests) for epoch in epochs]} if any(epoch.tests for epoch in epochs) else {}),
        "diverged": epochs[-1].diverged,
    }


def lesson_record(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A lesson's entry in results.json, of `run_record`s: lists of a value a run."""
    names = "test_correct", "test_loss", "train_loss", "validation_correct", "seconds", "tests", "diverged"
    known = [name for name in names if all(name in run for run in runs)]
    return {
        "seeds": [run["seed"] for run in runs],
        "validation_correct": None,
        **{name: [run[name] for run in runs] for name in known},
    }


def ended_runs(epochs: Iterable[Epoch], count: int) -> Iterator[tuple[Epoch, list[Epoch] | None]]:
    """Pass epochs on, with all of a run's where it is its last: number `count`, or the one in which it diverged."""
    under_way: dict[Run, list[Epoch]] = {}
    for epoch in epochs:
        run = under_way.setdefault(epoch.run, [])
        run.append(epoch)
        ended = epoch.diverged or epoch.number == count
        yield epoch, under_way.pop(epoch.run) if ended else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
