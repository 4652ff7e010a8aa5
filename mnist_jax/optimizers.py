"""optax optimizers by name.

An `Optimizer` is a value, so a lesson can hold it, two can be compared and jit can take it as static. The
numbers in it become traced values of the optimizer's state (`optax.inject_hyperparams`): one compiled program
serves every learning rate, and `jax.vmap` can run over them.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from mnist_jax.errors import UserError, check_choice

# To add an optimizer that optax has, add its line here.
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "lion": optax.lion,
    "nadam": optax.nadam,
}

# Of float32, in which they are used: outside these a number would become 0 or infinity.
_SMALLEST, _LARGEST = (float(value) for value in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))

# Weights of running averages: outside [0, 1) the average grows without bound.
_AVERAGES = {"momentum", "b1", "b2", "decay"}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optax optimizer and its numbers; `optimizer()` makes one with keywords.

    Attributes:
      name: a key of `OPTIMIZERS`.
      learning_rate: step size, above 0.
      hyperparameters: optax's other arguments as (name, value) pairs sorted by name; what is not named keeps
        optax's default.

    Raises:
      UserError: unknown name, unknown hyperparameter, or a number outside its range.
    """

    name: str
    learning_rate: float
    hyperparameters: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        check_choice("optimizer", self.name, OPTIMIZERS)
        if not _SMALLEST <= self.learning_rate <= _LARGEST:
            raise UserError(f"The learning rate must be a number above 0 that float32 holds, not {self.learning_rate}.")
        allowed = hyperparameter_names(self.name)
        for key, value in self.hyperparameters:
            check_choice(f"hyperparameter of {self.name}", key, allowed)
            if not 0 <= value <= _LARGEST or (key in _AVERAGES and value >= 1):
                limits = "at least 0 and below 1" if key in _AVERAGES else "at least 0"
                raise UserError(f"{key} must be a number {limits}, not {value}.")

    def __str__(self) -> str:
        rest = "".join(f", {key} {value:g}" for key, value in self.hyperparameters)
        return f"{self.name} {self.learning_rate:g}{rest}"

    def transformation(self, overrides: Mapping[str, jax.typing.ArrayLike] | None = None) -> Any:
        """The optax gradient transformation, its numbers traced values in `opt_state.hyperparams`.

        Args:
          overrides: values, possibly traced, in place of some of this optimizer's numbers. They matter to
            `init` only: `update` takes what the state holds.

        Raises:
          UserError: an override of a number that this optimizer does not have.
        """
        numbers: dict[str, Any] = {"learning_rate": self.learning_rate, **dict(self.hyperparameters)}
        optax_defaults = _numeric_defaults(self.name)
        for key in overrides or {}:
            # A number that optax leaves out by default (sgd's momentum) changes the program, not only a value.
            check_choice(f"traced hyperparameter of {self.name}", key, {**numbers, **optax_defaults})
        return optax.inject_hyperparams(OPTIMIZERS[self.name])(**{**numbers, **(overrides or {})})


def optimizer(name: str, learning_rate: float, /, **hyperparameters: float) -> Optimizer:
    """`Optimizer` with the hyperparameters as keywords: `optimizer("sgd", 0.01, momentum=0.5)`."""
    return Optimizer(name, learning_rate, tuple(sorted(hyperparameters.items())))


def hyperparameter_names(name: str) -> list[str]:
    """The numbers, beside the learning rate, that optax's optimizer of this name takes."""
    optional = [key for key, value in _parameters(name).items() if key == "momentum" and value is None]
    return sorted([*_numeric_defaults(name), *optional])


def _numeric_defaults(name: str) -> dict[str, float]:
    return {
        key: value
        for key, value in _parameters(name).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _parameters(name: str) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(OPTIMIZERS[name]).parameters.values()}
