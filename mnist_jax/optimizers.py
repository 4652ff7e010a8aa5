"""optax optimizers by name.

An `Optimizer` is a value, so a lesson can hold it, two can be compared and jit can take it as static. The
numbers in it become traced values of the optimizer's state (`optax.inject_hyperparams`): one compiled program
serves every learning rate, and `jax.vmap` can run over them.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from reprlib import repr as short
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

# Weights of running averages: outside [0, 1) the average grows without bound. So does one that float32 rounds to 1.
_AVERAGES = {"momentum", "b1", "b2", "decay"}


def is_whole(value: object) -> bool:
    """Whether it is a whole number: JSON and Python take True for 1."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a number, whole or not, as JSON can hold it."""
    return isinstance(value, int | float) and not isinstance(value, bool)


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
        if not is_number(self.learning_rate) or not _SMALLEST <= self.learning_rate <= _LARGEST:
            raise UserError(
                f"The learning rate must be a Python number above 0 that float32 holds, not {self.learning_rate!r}."
            )
        pairs = self.hyperparameters
        if not isinstance(pairs, tuple) or not all(map(_is_pair, pairs)):
            raise UserError(f"The hyperparameters must be a tuple of (name, value) pairs, not {short(pairs)}.")
        names = [name for name, _ in pairs]
        if names != sorted(set(names)):
            raise UserError(f"Each hyperparameter must be given once, in the order of their names, not {names}.")
        allowed = hyperparameter_names(self.name)
        for key, value in pairs:
            check_choice(f"hyperparameter of {self.name}", key, allowed)
            below = np.float32(1) if key in _AVERAGES else np.float32("inf")
            if not is_number(value) or not (value == 0 or _SMALLEST <= value <= _LARGEST) or np.float32(value) >= below:
                limits = "at least 0 and below 1" if key in _AVERAGES else "at least 0"
                raise UserError(f"{key} must be a Python number {limits} that float32 holds, not {value!r}.")

    def __str__(self) -> str:
        rest = "".join(f", {key} {value:g}" for key, value in self.hyperparameters)
        return f"{self.name} {self.learning_rate:g}{rest}"

    def check(self, overrides: Mapping[str, float]) -> None:
        """Raise `UserError` unless `transformation` takes these numbers, and each is within its range."""
        numbers = {**dict(self.hyperparameters), **overrides}
        rate = numbers.pop("learning_rate", self.learning_rate)
        Optimizer(self.name, rate, tuple(sorted(numbers.items())))
        self.transformation(overrides)

    def transformation(self, overrides: Mapping[str, jax.typing.ArrayLike] | None = None) -> Any:
        """The optax gradient transformation, its numbers traced values in `opt_state.hyperparams`.

        Args:
          overrides: values, possibly traced, in place of some of this optimizer's numbers. They matter to
            `init` only: `update` takes what the state holds.

        Raises:
          UserError: an override of a number that this optimizer does not have.
        """
        # As floats: optax would hold the learning rate 1 as an integer.
        own = {"learning_rate": self.learning_rate, **dict(self.hyperparameters)}
        numbers: dict[str, Any] = {name: float(value) for name, value in own.items()}
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


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _numeric_defaults(name: str) -> dict[str, float]:
    return {
        key: value
        for key, value in _parameters(name).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _parameters(name: str) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(OPTIMIZERS[name]).parameters.values()}
