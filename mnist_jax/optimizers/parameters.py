"""The arguments of optax's functions: which of them can be set, of what kind they are, and in what range."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from reprlib import repr as short
from typing import Any, Literal

import jax
import numpy as np
import optax

from mnist_jax.errors import UserError, check_choice

Value = float | bool | int | str | None  # as JSON holds it
Pairs = tuple[tuple[str, Value], ...]
Factory = Callable[..., optax.GradientTransformation]

KERNELS = "kernels"  # stands for a mask of the dense layers' kernels, without biases and batch norm

# The range of float32, in which optimizers compute: beyond it a number would become 0 or infinity.
SMALLEST, LARGEST = (float(value) for value in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))

# Decay rates of running averages, which grow without bound outside [0, 1), or where float32 rounds the rate to 1.
_AVERAGES = {
    "momentum", "decay", "rho", "beta", "b1", "b2", "b3", "beta3", "adam_b1", "adam_b2", "betas_1", "betas_2",
}  # fmt: skip

_FLOATS = ("float16", "float32")  # not bfloat16, which numpy, and so a checkpoint, lacks


def is_whole(value: object) -> bool:
    """Whether the value is an int; True and False do not count, though Python's bool is an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether the value is an int or a float, but not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def a_number(value: object, *, whole: bool = False) -> str:
    """What an error message asks for: a number, or a Python number where `value` is, say, numpy's."""
    if type(value).__module__ == "builtins":
        return "a whole number" if whole else "a number"
    return "a Python int" if whole else "a Python number"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """An argument that can be set.

    Attributes:
      name: name of the argument.
      kind: kind of its values; a `number` is traced, the others change the program.
      choices: the words that it takes.
      default: optax's default.
      is_optional: whether it may be None.
    """

    name: str
    kind: Literal["number", "whole", "word", "switch"]
    default: Any
    choices: tuple[str, ...] = ()
    is_optional: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether optax has no default."""
        return self.default is inspect.Parameter.empty

    def check(self, value: Value) -> None:
        """Raise `UserError` unless the value is valid for this argument."""
        if value is None and self.is_optional:
            return
        if self.kind == "number":
            self._check_number(value)
        elif self.kind == "whole":
            least = int(bool(self.default) or self.name.endswith("_steps"))
            if not is_whole(value) or not least <= typing.cast(int, value) < 2**31:
                raise UserError(f"{self.name} must be a whole number of at least {least}, not {value!r}.")
        elif self.kind == "word" and not isinstance(value, bool):
            check_choice(self.name, typing.cast(str, value), self.choices)
        elif not isinstance(value, bool) or not isinstance(self.default, bool):
            raise UserError(f"{self.name} must be {' or '.join(self.choices) or 'True or False'}, not {value!r}.")

    def _check_number(self, value: Any) -> None:
        # Some arguments of these names, such as optimistic_adam_v2's beta, are factors; their default is 1.
        is_average = self.name in _AVERAGES and self.default != 1
        below = np.float32(1) if is_average else np.float32("inf")
        if not is_number(value) or not (value == 0 or SMALLEST <= value <= LARGEST) or np.float32(value) >= below:
            limits = "at least 0 and below 1" if is_average else "at least 0"
            raise UserError(f"{self.name} must be {a_number(value)} {limits} that float32 holds, not {value!r}.")


@functools.cache
def signature(factory: Factory) -> Mapping[str, inspect.Parameter]:
    """The factory's arguments by name."""
    return inspect.signature(factory).parameters


@functools.cache
def parameters(factory: Factory) -> Mapping[str, Parameter]:
    """The arguments that can be set, by name, in the factory's order."""
    found = (_parameter(argument) for argument in signature(factory).values())
    settable = {parameter.name: parameter for parameter in found if parameter is not None}
    if "key" in settable:  # `seed` is optax's old name for it
        settable.pop("seed", None)
    return settable


def _parameter(argument: inspect.Parameter) -> Parameter | None:
    """The argument as a `Parameter`; None if it cannot be set, such as functions and arrays."""
    name, default = argument.name, argument.default
    kinds = set(_kinds(argument.annotation))
    optional = default is None or type(None) in kinds
    if name == "key":
        return Parameter(name, "whole", 0)
    if name.endswith("mask"):
        return Parameter(name, "word", default, (KERNELS,), optional)
    if "dtype" in name:
        return Parameter(name, "word", default, _FLOATS, optional)
    if isinstance(default, bool):
        return Parameter(name, "switch", default)
    if isinstance(default, str):
        words = typing.get_args(argument.annotation)
        return Parameter(name, "word", default, words, optional) if words else None  # else the valid words are unknown
    is_unset = default is None or default is argument.empty
    if is_whole(default) or (is_unset and int in kinds and float not in kinds):
        return Parameter(name, "whole", default, (), optional)
    if isinstance(default, float) or (is_unset and float in kinds and not _is_tree(kinds)):
        return Parameter(name, "number", default, (), optional)
    return None


def _kinds(annotation: Any) -> Iterable[Any]:
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return [annotation]
    return [kind for part in typing.get_args(annotation) for kind in _kinds(part)]


def _is_tree(kinds: Iterable[Any]) -> bool:
    """Whether the argument is a tree of arrays, of which a number would be only a leaf."""
    return any(typing.get_origin(kind) in (Iterable, Mapping) for kind in kinds)


def of_kernels(tree: Any) -> Any:
    """The mask that `kernels` stands for: the tree's structure, True at the kernels of dense layers."""
    return jax.tree_util.tree_map_with_path(lambda path, _: getattr(path[-1], "key", None) == "kernel", tree)


def check_values(name: str, settable: Mapping[str, Parameter], values: Mapping[str, Value]) -> None:
    """Raise `UserError` unless these values are valid for the function `name`, and none is missing."""
    if values and not settable:
        raise UserError(f"{name} takes no settings; {next(iter(values))!r} was given.")
    for key, value in values.items():
        check_choice(f"hyperparameter of {name}", key, sorted(settable))
        settable[key].check(value)
    missing = [key for key, parameter in settable.items() if parameter.is_needed and key not in values]
    if missing:
        raise UserError(f"{name} needs {' and '.join(missing)}.")


def factory_arguments(factory: Factory, values: Mapping[str, Value]) -> dict[str, Any]:
    """The keyword arguments with which to call the factory."""
    known = parameters(factory)
    given = {"key": 0, **values} if "key" in known else values
    return {name: _argument(value, known[name]) for name, value in given.items()}


def _argument(value: Value, parameter: Parameter) -> Any:
    if parameter.name.endswith("mask") and value == KERNELS:
        return of_kernels
    # Optax would keep 1 as an integer.
    return float(value) if parameter.kind == "number" and value is not None else value


def static_arguments(factory: Factory, values: Mapping[str, Value]) -> set[str]:
    """Names of the arguments, given or not, that change the program."""
    known = parameters(factory)
    return {
        name
        for name, argument in signature(factory).items()
        if name not in known or known[name].kind != "number" or values.get(name, argument.default) is None
    }


def check_form(what: str, name: object, called: str, pairs: object) -> None:
    """Raise `UserError` unless `name` is a str and `pairs` are (name, value) pairs sorted by name."""
    if not isinstance(name, str):
        raise UserError(f"The name of the {what} must be a str, not {short(name)}.")
    if not isinstance(pairs, tuple) or not all(map(_is_pair, pairs)):
        raise UserError(f"The {called} must be a tuple of (name, value) pairs, not {short(pairs)}.")
    names = [name for name, _ in pairs]
    if names != sorted(set(names)):
        raise UserError(f"Each of the {called} must be given once, in the order of their names, not {names}.")
    for key, value in pairs:
        if not (value is None or isinstance(value, bool | str) or (is_number(value) and abs(value) <= LARGEST)):
            raise UserError(
                f"{key!r} must be {a_number(value)} that float32 holds, a bool, a str or None, not {short(value)}."
            )


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def words(pairs: Pairs) -> str:
    """The pairs in words: `, b1 0.9, nesterov true`."""
    return "".join(f", {key} {f'{value:g}' if is_number(value) else str(value).lower()}" for key, value in pairs)
