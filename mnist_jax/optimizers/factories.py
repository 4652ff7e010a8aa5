"""optax's functions that make optimizers, and those that make what may stand before one: found by looking."""

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
_EACH = "needs the gradient of each single example, and a step here has the batch's mean only."
REFUSED = {
    "contrib.dpsgd": f"contrib.dpsgd {_EACH}",
    "contrib.differentially_private_aggregate": f"contrib.differentially_private_aggregate {_EACH}",
    "scale_by_learning_rate": "scale_by_learning_rate turns the gradient around, and the optimizer does so itself.",
    "contrib.scale_by_muon": "contrib.scale_by_muon takes matrices only; the optimizer contrib.muon takes a whole net.",
}


def _makers(module: ModuleType, prefix: str = "") -> Iterator[tuple[str, Factory]]:
    """Name -> public function that makes a transformation, and of which all that it needs can be set."""
    for name, made in vars(module).items():
        if name.startswith("_") or inspect.isclass(made) or not callable(made):
            continue
        try:
            shape = inspect.signature(made)
        except ValueError:  # of a type's alias
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
    """The same with its first argument called learning_rate, and with a name for each number of a tuple.

    Prodigy's `betas`, a tuple of two numbers, become `betas_1` and `betas_2`. Keywords that it takes of any name are
    not set by name: optax would inject them as one argument. It raises `UserError` where the factory makes no
    transformation.
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
    """Whether each can be set: a number below 0, as in the coefficients of muon, cannot."""
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
    """Make an optimizer of one's own known, for `optimizer(name, ...)`.

    Args:
      name: not one of optax's.
      factory: as optax's are: its first argument is the learning rate, and what else it needs can be set.

    Raises:
      UserError: it is not such a function, or optax has one of that name.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"The name of an optimizer must be a word, not {short(name)}.")
    if name in _FOUND or f"contrib.{name}" in _FOUND:
        raise UserError(f"optax has a {name} of its own; choose another name for yours.")
    try:
        has_rate = callable(factory) and _has_rate(factory)
    except ValueError:  # it is C's, and its arguments are not known
        has_rate = False
    if not has_rate:
        raise UserError(f"The first argument of {name} must be called learning_rate.")
    made = _as_named(factory)
    if unknown := _unknown(made):
        raise UserError(f"{name} needs {unknown[0]}; give it a default, or annotate it as a float or an int.")
    if name in OPTIMIZERS:
        jax.clear_caches()  # programs with the one of that name are compiled
    OPTIMIZERS[name] = made


def optimizer_factory(name: str) -> Factory:
    """The function that makes the optimizer; those of `optax.contrib` may be named without `contrib.`.

    Raises:
      UserError: there is none, or it cannot train here.
    """
    return _looked_up("optimizer", name, OPTIMIZERS)


def transformation_factory(name: str) -> Factory:
    """The same of what may stand before an optimizer."""
    return _looked_up("transformation", name, TRANSFORMATIONS)


def full_name(name: str) -> str:
    """The one name of what may have two: `muon` is `contrib.muon`."""
    contrib = f"contrib.{name}"
    return contrib if contrib in _FOUND and name not in _FOUND else name


def _looked_up(what: str, name: str, known: Mapping[str, Factory]) -> Factory:
    full = full_name(name)
    if full in REFUSED:
        raise UserError(REFUSED[full])
    check_choice(what, full, known)
    return known[full]
