"""Learning-rate schedules of optax by name: how the rate of a run changes from step to step.

A `Schedule` is a shape by which the optimizer's learning rate is multiplied at each step. The learning rate itself
stays a traced value of the optimizer's state, so one compiled program serves a whole grid of them.
"""

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mnist_jax.errors import UserError, check_choice, reason
from mnist_jax.optimizers.parameters import LARGEST, Pairs, Value, a_number, check_form, is_number, is_whole, words

_UNITS = ("epochs", "fraction", "steps")
_AT = re.compile(rf"at_([0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)_({'|'.join(_UNITS)})")  # one of optax's boundaries
_MOST_STEPS = 2**31 - 1  # optax counts them in int32

# Where optax has no default; `init_value` is 1 in a schedule that begins at its peak.
_DEFAULTS = {"value": 1.0, "peak_value": 1.0, "init_value": 0.0, "end_value": 0.0}
_REST_OF_RUN = ("decay_steps", "transition_steps")  # what they default to
_WARMUP_FRACTION = 0.05  # of the run, as in AlgoPerf's baselines


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The name of one of optax's schedules, and its numbers; `schedule()` makes one with keywords, and checks it.

    Attributes:
      name: name of optax's function, without the suffix `_schedule`.
      numbers: (name, value) pairs sorted by name; others keep their defaults.
      steps: number of steps of the whole run; None until `for_run` sets it.
      epochs: number of epochs of the whole run; None until then, too.

    Raises:
      UserError: a field has the wrong type or form.
    """

    name: str
    numbers: Pairs = ()
    steps: int | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        check_form("schedule", self.name, "numbers", self.numbers)
        for count in (self.steps, self.epochs):
            if count is not None and (not is_whole(count) or not 1 <= count <= _MOST_STEPS):
                raise UserError(
                    f"A run's steps and epochs must be whole numbers from 1 to {_MOST_STEPS:,}, not {count!r}."
                )

    def __str__(self) -> str:
        return f"{self.name}{words(self.numbers)}"

    def check(self) -> None:
        """Raise `UserError` as `schedule()` does."""
        _check(self)

    def for_run(self, *, steps_per_epoch: int, epochs: int) -> "Schedule":
        """The schedule set to a run of this length; unchanged if its length is already set.

        Raises:
          UserError: see `schedule()` and `shape`.
        """
        if self.steps is not None:
            return self
        chosen = dataclasses.replace(self, steps=steps_per_epoch * epochs, epochs=epochs)
        chosen.shape()
        return chosen

    def shape(self) -> Callable[[jax.typing.ArrayLike], jax.Array]:
        """Optax's schedule with a peak of 1: from a step, counted from 0, to the factor of the learning rate.

        Raises:
          UserError: see `schedule()`; or the length of the run is not set, or too short.
        """
        self.check()
        if self.steps is None or self.epochs is None:
            raise UserError(
                f"The schedule {self.name} depends on the length of the run; call "
                "mnist_jax.lessons.for_run(lesson, steps_per_epoch=..., epochs=...) first."
            )
        try:
            function = _factories()[self.name](**_arguments(self, self.steps, self.epochs))
        except ValueError as error:
            raise UserError(
                f"The schedule {self} does not fit a run of {self.steps:,} steps ({reason(error)})."
            ) from error

        def shape(count: jax.typing.ArrayLike) -> jax.Array:
            with jax.numpy_dtype_promotion("standard"):  # optax divides an int32 count by a float
                return jnp.asarray(function(count))

        return shape


class RateState(NamedTuple):
    """The state of a `ScheduledRate`.

    Attributes:
      step: int32, number of steps taken.
      peak: the learning rate that the shape is multiplied by.
    """

    step: jax.Array
    peak: jax.Array


class ScheduledRate(NamedTuple):
    """The learning rate as a stateful schedule of optax, for `optax.inject_hyperparams`: a shape times a traced peak.

    Attributes:
      shape: what `Schedule.shape` returns.
      peak: initial peak of the state.
    """

    shape: Callable[[jax.typing.ArrayLike], jax.Array]
    peak: jax.typing.ArrayLike

    def init(self) -> RateState:
        """The state before the first step."""
        dtype = getattr(self.peak, "dtype", jax.dtypes.canonicalize_dtype(float))
        return RateState(jnp.zeros((), jnp.int32), jnp.asarray(self.peak, dtype))

    def update(self, state: RateState, **_: Any) -> RateState:
        """The state after one more step."""
        return RateState(optax.safe_increment(state.step), state.peak)

    def __call__(self, state: RateState, **_: Any) -> jax.Array:
        """The rate of the next step."""
        return state.peak * self.shape(state.step).astype(state.peak.dtype)


def schedule(name: str, /, **numbers: Value) -> Schedule:
    """One of optax's schedules, with its numbers as keywords.

        schedule("cosine_decay")
        schedule("warmup_cosine_decay", warmup_fraction=0.05)
        schedule("exponential_decay", decay_rate=0.1)
        schedule("piecewise_constant", at_5_epochs=0.1, at_8_epochs=0.1)

    Lengths do not depend on the run: optax's `warmup_steps` is given as `warmup_epochs`, `warmup_fraction` (of the run)
    or `warmup_steps`, `transition_begin` as `transition_begin_epochs` and so on. They are rounded to steps, at least
    one. By default a warm-up is 5 % of the run, `decay_steps` all of it, warm-up included, and `transition_steps` what
    is left after the warm-up.

    Values (`init_value`, `peak_value`, `end_value`) are fractions of the optimizer's learning rate. Where optax has no
    default, the peak is 1, and the values before it and at the end are 0.

    Optax's `boundaries_and_scales` is given boundary by boundary, as `at_5_epochs=0.1`.

    Args:
      name: name of optax's function, with or without its suffixes `_schedule` and `_decay`; see `schedule_names`.
      numbers: its arguments, as above.

    Raises:
      UserError: the schedule is unknown or not supported, or a number is unknown, out of range or missing.
    """
    plain = name.removesuffix("_schedule") if isinstance(name, str) else name
    full = f"{plain}_decay" if f"{plain}_decay" in _factories() else plain
    chosen = Schedule(full, tuple(sorted(numbers.items())))
    chosen.check()
    return chosen


def schedule_names() -> list[str]:
    """Names of the schedules that `schedule()` makes."""
    return [name for name in _factories() if "other" not in _kinds(name).values()]


def refused_schedule_names() -> list[str]:
    """Names of optax's other schedules, which need more than names and numbers; `schedule()` says why."""
    return sorted(_factories().keys() - schedule_names())


@functools.cache
def _factories() -> Mapping[str, Callable[..., optax.Schedule]]:
    """Optax's functions that return a schedule, by name without the suffix `_schedule`."""
    return {
        name.removesuffix("_schedule"): function
        for name, function in sorted(vars(optax.schedules).items())
        if inspect.isfunction(function) and inspect.signature(function).return_annotation == optax.Schedule
    }


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_factories()[name]).parameters


@functools.cache
def _kinds(name: str) -> Mapping[str, str]:
    """The kind of each parameter of optax's function; `other` cannot be set here."""

    def kind(annotation: Any) -> str:
        if annotation in (plain := {int: "length", bool: "switch", str: "word"}):
            return plain[annotation]
        choices = typing.get_args(annotation) or (annotation,)
        return "number" if float in choices else "boundaries" if dict[int, float] in choices else "other"

    return {key: kind(parameter.annotation) for key, parameter in _parameters(name).items()}


@functools.cache
def _spellings(name: str) -> Mapping[str, tuple[str, str]]:
    """Names of a schedule's numbers here -> (optax's parameter, unit of a length)."""
    return {
        (f"{key.removesuffix('_steps')}_{unit}" if unit else key): (key, unit)
        for key, kind in _kinds(name).items()
        if kind != "boundaries"
        for unit in (_UNITS if kind == "length" else [""])
    }


def _check(chosen: Schedule) -> None:
    """See `schedule()`."""
    name = chosen.name
    others = [key for key, kind in _kinds(name).items() if kind == "other"] if name in _factories() else []
    if others:
        raise UserError(
            f"The schedule {name} cannot be given by names and numbers, because of its {others[0]}; choose one of: "
            f"{', '.join(schedule_names())}."
        )
    check_choice("schedule", name, schedule_names())
    kinds, spellings = _kinds(name), _spellings(name)
    has_boundaries = "boundaries" in kinds.values()
    given: dict[str, Value] = {}
    for key, value in chosen.numbers:
        if has_boundaries and _AT.fullmatch(key):
            _check_number(key, value, zero=True)
            continue
        check_choice(f"argument of {name}", key, [*spellings, *(["at_5_epochs and so on"] if has_boundaries else [])])
        parameter, unit = spellings[key]
        if parameter in given:
            raise UserError(f"{key} sets the {parameter} of {name} a second time; set it once.")
        given[parameter] = value
        _check_setting(key, value, kinds[parameter], unit, default=_defaults(name).get(parameter))
    if has_boundaries and not any(_AT.fullmatch(key) for key, _ in chosen.numbers):
        raise UserError(f"The schedule {name} needs at least one change, such as at_5_epochs 0.1.")
    missing = set(kinds) - set(given) - set(_defaults(name))
    if missing:
        ways = [key for key, (parameter, _) in spellings.items() if parameter == min(missing)]
        raise UserError(f"The schedule {name} needs {' or '.join(ways)}.")
    shares = [value for key, value in {**_defaults(name), **given}.items() if key.startswith("pct_")]
    if shares != sorted(set(shares)) or 1 in shares:
        raise UserError(f"The pct_... of {name} must be below 1, each above the one before it, not {shares}.")


def _defaults(name: str) -> Mapping[str, Any]:
    """Defaults, optax's or ours; None stands for the rest of the run, our length of a warm-up, or no boundaries."""
    own = {**_DEFAULTS, **dict.fromkeys((*_REST_OF_RUN, "warmup_steps"))}
    parameters = _parameters(name)
    if "peak_value" not in parameters:
        own["init_value"] = 1.0
    return {
        key: own[key] if parameter.default is parameter.empty else parameter.default
        for key, parameter in parameters.items()
        if parameter.default is not parameter.empty or key in own
    }


def _check_setting(key: str, value: Value, kind: str, unit: str, *, default: Any) -> None:
    if kind in ("switch", "word"):
        form, what = (bool, "True or False") if kind == "switch" else (str, "a word")
        if not isinstance(value, form):
            raise UserError(f"{key} must be {what}, not {value!r}.")
        return
    # Optax would never leave a warm-up of 0 steps, and divides by other lengths.
    zero = default == 0 or key.endswith("value")
    _check_number(key, value, zero=zero, most=1 if unit == "fraction" else LARGEST)


def _check_number(key: str, value: Any, *, zero: bool, most: float = LARGEST) -> None:
    """Raise `UserError` unless it is a number above 0, or 0 where that is allowed, and at most `most`."""
    if not is_number(value) or not (value >= 0 if zero else value > 0) or not value <= most:
        lower = "of at least 0" if zero else "above 0"
        upper = f" and at most {most}" if most < LARGEST else " that float32 holds"
        raise UserError(f"{key} must be {a_number(value)} {lower}{upper}, not {value!r}.")


def _arguments(chosen: Schedule, steps: int, epochs: int) -> dict[str, Any]:
    """The arguments of optax's function for a run of this length."""
    sizes = {"epochs": steps / epochs, "fraction": steps, "steps": 1}

    def in_steps(amount: Any, unit: str) -> int:
        return max(1, round(min(amount * sizes[unit], _MOST_STEPS))) if amount else 0

    name, boundaries = chosen.name, {}
    arguments = dict(_defaults(name))
    for key, value in chosen.numbers:
        if match := _AT.fullmatch(key):
            if (step := in_steps(float(match[1]), match[2])) in boundaries:
                raise ValueError(f"two changes are at step {step:,}")
            if step > steps:
                raise ValueError(f"a change is at step {step:,}")
            boundaries[step] = value
        else:
            parameter, unit = _spellings(name)[key]
            arguments[parameter] = in_steps(value, unit) if unit else value
    if arguments.get("warmup_steps", 0) is None:
        arguments["warmup_steps"] = in_steps(_WARMUP_FRACTION, "fraction")
    # Optax's `decay_steps` includes the warm-up, `transition_steps` begins after it.
    begin = arguments.get("warmup_steps", 0) + arguments.get("transition_begin", 0)
    rest = {"decay_steps": steps, "transition_steps": steps - begin}
    arguments |= {key: rest[key] for key in rest if key in arguments and arguments[key] is None}
    if begin >= min(steps, arguments.get("decay_steps", steps)):
        raise ValueError(f"nothing is left after the first {begin:,}")
    arguments |= {key: boundaries for key, kind in _kinds(name).items() if kind == "boundaries"}
    return arguments
