"""optax's optimizers as values.

An `Optimizer` is a value, so a lesson can hold it, two can be compared and jit can take it as static. The
numbers in it become traced values of the optimizer's state (`optax.inject_hyperparams`): one compiled program
serves every learning rate, and `jax.vmap` can run over them. Other settings change the program.
"""

import dataclasses
import functools
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

import jax
import optax

from mnist_jax.errors import UserError, check_choice
from mnist_jax.optimizers.factories import full_name, optimizer_factory, transformation_factory
from mnist_jax.optimizers.parameters import (
    LARGEST,
    SMALLEST,
    Pairs,
    Parameter,
    Value,
    a_number,
    check_form,
    check_values,
    factory_arguments,
    is_number,
    parameters,
    static_arguments,
    words,
)
from mnist_jax.optimizers.schedules import Schedule, ScheduledRate

# They estimate a step size, or a curvature, from their first step.
_NEVER_FROM_0 = ("lbfgs", "prodigy", "dadapt_adamw")
_UNSCHEDULED = {"rprop": "takes the learning rate as each weight's first step size, which it then changes itself"}


def _plain(name: str) -> str:
    return name.removeprefix("contrib.")


def may_start_at_0(name: str) -> bool:
    """Whether an optimizer still learns if the learning rate of its first step is 0."""
    return _plain(name) not in _NEVER_FROM_0


def takes_schedule(name: str) -> bool:
    """Whether a schedule changes what an optimizer does."""
    return _plain(name) not in _UNSCHEDULED


@dataclasses.dataclass(frozen=True)
class Transformation:
    """A step of a chain before the optimizer, such as `clip_by_global_norm`; `transformation()` makes one.

    Attributes:
      name: name of optax's function.
      arguments: (name, value) pairs sorted by name; others keep optax's defaults.

    Raises:
      UserError: a field has the wrong type or form; `check` checks the rest.
    """

    name: str
    arguments: Pairs = ()

    def __post_init__(self) -> None:
        check_form("transformation", self.name, "arguments", self.arguments)

    def __str__(self) -> str:
        return f"{self.name}{words(self.arguments)}"

    def check(self) -> None:
        """Raise `UserError` unless optax has the transformation and it takes these arguments."""
        check_values(self.name, parameters(transformation_factory(self.name)), dict(self.arguments))

    def transformation(self) -> Any:
        """The optax gradient transformation; its numbers are constants of the program."""
        factory = transformation_factory(self.name)
        return factory(**factory_arguments(factory, dict(self.arguments)))


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optax optimizer and its numbers; `optimizer()` makes one with keywords.

    Attributes:
      name: a key of `OPTIMIZERS`.
      learning_rate: step size, above 0.
      hyperparameters: optax's other arguments as (name, value) pairs sorted by name; the rest keep their defaults.
      schedule: how the learning rate changes, with `learning_rate` as its peak; None if it does not.
      chain: transformations of the gradients before the optimizer, in this order.

    Raises:
      UserError: a field has the wrong type or form. `check` checks the rest, so that a run can be read without its
        optimizer.
    """

    name: str
    learning_rate: float
    hyperparameters: Pairs = ()
    schedule: Schedule | None = None
    chain: tuple[Transformation, ...] = ()

    def __post_init__(self) -> None:
        if not is_number(self.learning_rate) or not SMALLEST <= self.learning_rate <= LARGEST:
            raise UserError(
                f"The learning rate must be {a_number(self.learning_rate)} above 0 that float32 holds, "
                f"not {self.learning_rate!r}."
            )
        check_form("optimizer", self.name, "hyperparameters", self.hyperparameters)
        if not isinstance(self.schedule, Schedule | None):
            raise UserError(f"The schedule must be a Schedule or None, not {short(self.schedule)}.")
        if not isinstance(self.chain, tuple) or not all(isinstance(link, Transformation) for link in self.chain):
            raise UserError(f"The chain must be a tuple of Transformations, not {short(self.chain)}.")

    def __str__(self) -> str:
        return self._words(f"{self.name} {self.learning_rate:g}")

    @property
    def label(self) -> str:
        """Its name in tables that have a column for learning rates."""
        return self._words(self.name)

    def _words(self, name: str) -> str:
        before = "".join(f"{link}, then " for link in self.chain)
        scheduled = "" if self.schedule is None else f", {self.schedule}"
        return f"{before}{name}{words(self.hyperparameters)}{scheduled}"

    def check(self, overrides: Mapping[str, float] | None = None) -> None:
        """Raise `UserError` unless optax has this optimizer, and it takes these numbers, each within its range."""
        given = dict(overrides or {})
        Optimizer(self.name, given.pop("learning_rate", self.learning_rate))
        values = {**dict(self.hyperparameters), **given}
        check_values(self.name, _hyperparameters(self.name), values)
        if _plain(self.name).startswith("schedule_free") and values.get("b1") == 0:
            raise UserError(f"{self.name} divides by b1, which must be above 0.")
        for link in self.chain:
            link.check()
        if self.schedule is not None:
            self.schedule.check()
            if not takes_schedule(self.name):
                raise UserError(f"{self.name} {_UNSCHEDULED[_plain(self.name)]}, so that no schedule would change it.")
        self._check_traced(overrides or {})

    def transformation(self, overrides: Mapping[str, jax.typing.ArrayLike] | None = None) -> Any:
        """The optax gradient transformation, its numbers traced values in `opt_state.hyperparams`.

        Args:
          overrides: values, possibly traced, in place of some of this optimizer's numbers. They matter to
            `init` only: `update` takes what the state holds.

        Raises:
          UserError: there is no such optimizer, or an override of a number that it does not have.
        """
        self._check_traced(overrides or {})
        factory = optimizer_factory(self.name)
        own = {**dict(self.hyperparameters), "learning_rate": self.learning_rate}
        chained = _chained(factory, self.chain) if self.chain else factory
        injected = optax.inject_hyperparams(chained, static_args=static_arguments(factory, own))
        arguments = {**factory_arguments(factory, own), **(overrides or {})}
        if self.schedule is not None:
            arguments["learning_rate"] = ScheduledRate(self.schedule.shape(), arguments["learning_rate"])
        return injected(**arguments)

    def for_run(self, *, steps_per_epoch: int, epochs: int) -> "Optimizer":
        """The optimizer with its schedule, if it has one, set to a run of this length.

        Raises:
          UserError: see `Schedule.for_run`; or a schedule that begins at 0 where the optimizer cannot.
        """
        if self.schedule is None:
            return self
        known = self.schedule.for_run(steps_per_epoch=steps_per_epoch, epochs=epochs)
        if not may_start_at_0(self.name) and known.shape()(0) == 0:
            raise UserError(
                f"{self.name} cannot begin at a learning rate of 0; give the schedule an init_value above 0."
            )
        return dataclasses.replace(self, schedule=known)

    def _check_traced(self, names: Mapping[str, Any]) -> None:
        factory = optimizer_factory(self.name)
        own = {**dict(self.hyperparameters), "learning_rate": self.learning_rate}
        traced = parameters(factory).keys() - static_arguments(factory, own)
        for key in names:
            # A number that optax leaves out by default (sgd's momentum) changes the program, not only a value.
            check_choice(f"traced hyperparameter of {self.name}", key, sorted(traced))


def optimizer(
    name: str,
    learning_rate: float,
    /,
    *,
    schedule: Schedule | None = None,
    chain: tuple[Transformation, ...] = (),
    **hyperparameters: Any,
) -> Optimizer:
    """`Optimizer` with the hyperparameters as keywords: `optimizer("sgd", 0.01, momentum=0.5)`.

    Raises:
      UserError: unknown name, unknown hyperparameter, or a value that it does not take.
    """
    pairs = tuple(sorted(hyperparameters.items()))
    chosen = Optimizer(full_name(name), learning_rate, pairs, schedule, chain)
    chosen.check()
    return chosen


def transformation(name: str, /, *values: Value, **arguments: Value) -> Transformation:
    """`Transformation` with its arguments as optax's function takes them: `transformation("clip_by_global_norm", 1.0)`.

    Raises:
      UserError: unknown name, unknown argument, or a value that it does not take.
    """
    names = list(parameters(transformation_factory(name)))
    if len(values) > len(names):
        takes = f"these arguments, in this order: {', '.join(names)}" if names else "no arguments"
        raise UserError(f"{name} takes {takes}; {len(values)} were given.")
    placed = dict(zip(names, values, strict=False))
    if both := sorted(placed.keys() & arguments.keys()):
        raise UserError(f"{name} is given {both[0]} twice.")
    chosen = Transformation(full_name(name), tuple(sorted({**placed, **arguments}.items())))
    chosen.check()
    return chosen


def hyperparameter_names(name: str) -> list[str]:
    """Names of an optimizer's settings besides the learning rate."""
    return sorted(_hyperparameters(name))


def _hyperparameters(name: str) -> dict[str, Parameter]:
    return {key: found for key, found in parameters(optimizer_factory(name)).items() if key != "learning_rate"}


def _chained(factory: Any, chain: tuple[Transformation, ...]) -> Any:
    """A factory of the chain and the optimizer: the state's `hyperparams` are the optimizer's, as without a chain."""

    @functools.wraps(factory)
    def chained(**arguments: Any) -> optax.GradientTransformation:
        return optax.chain(*(link.transformation() for link in chain), factory(**arguments))

    return chained
