"""optax's functions that make optimizers, or transformations for a chain before one, found in the installed optax."""

import functools
import inspect
from collections.abc import Iterator, Mapping
from reprlib import repr as short
from types import ModuleType
from typing import Any

import jax
import optax
import optax.contrib

from mnist_jax.errors import UserError, check_choice
from mnist_jax.optimizers.parameters import Factory, parameters, signature

_RATES = ("learning_rate", "max_learning_rate")

# What cannot train here, and why.
_EACH = "needs the gradient of each single example, but a step here has only the batch's mean."
REFUSED = {
    "contrib.dpsgd": f"contrib.dpsgd {_EACH}",
    "contrib.differentially_private_aggregate": f"contrib.differentially_private_aggregate {_EACH}",
    "scale_by_learning_rate": "scale_by_learning_rate flips the gradient's sign, which the optimizer already does.",
    "contrib.scale_by_muon": "contrib.scale_by_muon takes matrices only; the optimizer contrib.muon takes a whole net.",
}


def _makers(module: ModuleType, prefix: str = "") -> Iterator[tuple[str, Factory]]:
    """Yield name and function for each that makes a transformation and whose required arguments can be set."""
    for name, made in vars(module).items():
        if name.startswith("_") or inspect.isclass(made) or not callable(made):
            continue
        try:
            shape = inspect.signature(made)
        except ValueError:  # a type alias
            continue
        returns = str(shape.return_annotation)
        is_maker = "GradientTransformation" in returns and "Callable" not in returns
        if (is_maker or (shape.return_annotation is shape.empty and _has_rate(made))) and not _unknown(made):
            yield f"{prefix}{name}", made


def _has_rate(factory: Factory) -> bool:
    return next(iter(signature(factory)), None) in _RATES


def _unknown(factory: Factory) -> list[str]:
    """Required arguments whose values cannot be given as numbers and words."""
    needed = [name for name, argument in signature(factory).items() if argument.default is argument.empty]
    return [name for name in needed if name not in parameters(factory)]


def _is_optimizer(name: str, factory: Factory) -> bool:
    return _has_rate(factory) and not name.removeprefix("contrib.").startswith("scale_by_")


def _as_named(factory: Factory) -> Factory:
    """The factory with its first argument renamed to learning_rate, and a name for each number of a tuple.

    Prodigy's `betas`, a tuple of two numbers, become `betas_1` and `betas_2`. `**kwargs` cannot be set by name: optax
    would inject them as one argument. Calling it raises `UserError` if the factory returns no transformation.
    """
    arguments = inspect.signature(factory).parameters.values()
    first, *rest = (argument for argument in arguments if argument.kind is not argument.VAR_KEYWORD)
    tuples = {argument.name: _numbers(argument) for argument in rest if _is_tuple_of_numbers(argument.default)}

    @functools.wraps(factory)
    def named(learning_rate: Any, **others: Any) -> optax.GradientTransformation:
        for name, numbers in tuples.items():
            others[name] = tuple(others.pop(number.name, number.default) for number in numbers)
        made = factory(learning_rate, **others)
        if not isinstance(made, optax.GradientTransformation):
            raise UserError(
                f"A function that makes an optimizer must return an optax.GradientTransformation, not {short(made)}."
            )
        return made

    learning_rate = first.replace(name="learning_rate", annotation=float)
    settable = [number for argument in rest for number in tuples.get(argument.name, [argument])]
    named.__signature__ = inspect.Signature([learning_rate, *settable])  # type: ignore[attr-defined]
    return named


def _is_tuple_of_numbers(default: object) -> bool:
    """Whether it is a tuple of numbers that can be set: negative ones, as in muon's coefficients, cannot."""
    return isinstance(default, tuple) and all(isinstance(value, float) and value >= 0 for value in default)


def _numbers(argument: inspect.Parameter) -> list[inspect.Parameter]:
    return [
        argument.replace(name=f"{argument.name}_{place}", default=value, annotation=float)
        for place, value in enumerate(argument.default, start=1)
    ]


_FOUND = dict([*_makers(optax), *_makers(optax.contrib, "contrib.")])

OPTIMIZERS: dict[str, Factory] = {
    name: _as_named(factory) for name, factory in _FOUND.items() if _is_optimizer(name, factory) and name not in REFUSED
}
TRANSFORMATIONS: dict[str, Factory] = {
    name: factory for name, factory in _FOUND.items() if not _is_optimizer(name, factory) and name not in REFUSED
}


def refused_optimizer_names() -> list[str]:
    """Optax's optimizers that cannot train here; `optimizer()` says why."""
    return [name for name in REFUSED if name in _FOUND and _is_optimizer(name, _FOUND[name])]


def register(name: str, factory: Factory) -> None:
    """Register a custom optimizer, for `optimizer(name, ...)`.

    Args:
      name: a name that optax does not use.
      factory: returns an optax transformation; its first argument is `learning_rate`, and every other one has a default
        or is annotated as a float or an int.

    Raises:
      UserError: the factory is not of this form, or optax uses the name.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"The name of an optimizer must be a word, not {short(name)}.")
    if name in _FOUND or f"contrib.{name}" in _FOUND:
        raise UserError(f"optax has a {name} of its own; choose another name for yours.")
    try:
        has_rate = callable(factory) and _has_rate(factory)
    except ValueError:  # written in C, with unknown arguments
        has_rate = False
    if not has_rate:
        raise UserError(f"The first argument of {name} must be called learning_rate.")
    made = _as_named(factory)
    if unknown := _unknown(made):
        raise UserError(f"{name} needs {unknown[0]}; give it a default, or annotate it as a float or an int.")
    if name in OPTIMIZERS:
        jax.clear_caches()  # compiled programs may hold the one that is replaced
    OPTIMIZERS[name] = made


def optimizer_factory(name: str) -> Factory:
    """The function that makes the optimizer of this name, in which `contrib.` may be left out.

    Raises:
      UserError: there is none, or it cannot train here.
    """
    return _looked_up("optimizer", name, OPTIMIZERS)


def transformation_factory(name: str) -> Factory:
    """The function that makes the transformation of this name; raises as `optimizer_factory` does."""
    return _looked_up("transformation", name, TRANSFORMATIONS)


def full_name(name: str) -> str:
    """The canonical name: `contrib.muon` for `muon`."""
    contrib = f"contrib.{name}"
    return contrib if contrib in _FOUND and name not in _FOUND else name


def _looked_up(what: str, name: str, known: Mapping[str, Factory]) -> Factory:
    full = full_name(name)
    if full in REFUSED:
        raise UserError(REFUSED[full])
    check_choice(what, full, known)
    return known[full]
