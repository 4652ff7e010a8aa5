"""Optimizers in the user's words: names, each followed by its value.

An `=` between the two works like a space, and quotes around several words change nothing.
"""

import importlib
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnist_jax.errors import UserError, reason
from mnist_jax.optimizers import Schedule, Transformation, register, schedule, transformation
from mnist_jax.optimizers.factories import optimizer_factory, transformation_factory
from mnist_jax.optimizers.parameters import Parameter, Value, parameters

_PLAIN: dict[str, Value] = {"none": None, "true": True, "false": False}


def optimizer_of(said: str) -> tuple[str, dict[str, Any]]:
    """Read an optimizer of a comparison, `sgd momentum=0.9 schedule=cosine alpha=0.1 chain=clip_by_global_norm 1.0`.

    Returns:
      Its name, and its hyperparameters, schedule and chain as keywords of `optimizers.optimizer`.

    Raises:
      UserError: something that it names does not exist, or a name has no value.
    """
    name, *words = _words([said]) or [""]
    find_optimizer(name)
    part, parts = "hyperparameters", {"hyperparameters": list[str]()}
    for word in words:
        if word in ("schedule", "chain"):
            if word in parts:
                raise UserError(f"{name} is given {word} twice.")
            part, parts[word] = word, []
        else:
            parts[part].append(word)
    keywords: dict[str, Any] = hyperparameters_of(name, parts["hyperparameters"])
    if "schedule" in parts:
        keywords["schedule"] = schedule_of(parts["schedule"])
    if "chain" in parts:
        keywords["chain"] = chain_of(parts["chain"])
    return name, keywords


def find_optimizer(name: str) -> None:
    """Import and register a custom optimizer, `MODULE:FUNCTION`; any other name is one of optax's.

    Raises:
      UserError: there is no such module or function, or it makes no optimizer.
    """
    module, colon, function = name.partition(":")
    if not colon:
        return
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, as for `python -m`
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # of any kind: it comes from the user's own code
        raise UserError(
            f"The module {module!r} cannot be imported ({type(error).__name__}: {reason(error)}); MODULE:FUNCTION "
            "names a module of this folder or of Python's path, and a function in it."
        ) from error
    if not hasattr(found, function):
        raise UserError(f"The module {module!r} has no function {function!r}.")
    register(name, getattr(found, function))


def hyperparameters_of(name: str, said: Iterable[str]) -> dict[str, Value]:
    """Read hyperparameters of the optimizer `name`, such as `momentum none nesterov true`.

    Raises:
      UserError: there is no such optimizer, or a name has no value; `Optimizer.check` checks the rest.
    """
    return _settings(name, _words(said), parameters(optimizer_factory(name)))


def schedule_of(said: Iterable[str]) -> Schedule | None:
    """Read a schedule, such as `warmup_cosine warmup_fraction 0.05`, or `none`.

    Raises:
      UserError: see `optimizers.schedule`; or a name has no value.
    """
    name, *words = _words(said) or [""]
    if [name, *words] == ["none"]:
        return None
    return schedule(name, **_settings(name, words, {}))


def chain_of(said: Iterable[str]) -> tuple[Transformation, ...]:
    """Read a chain of transformations, each followed by values in optax's order and then values by name.

    For instance `clip_by_global_norm 1.0 add_decayed_weights 1e-4 mask kernels`, or `none`.

    Raises:
      UserError: see `optimizers.transformation`; or a name has no value.
    """
    words, chain = _words(said), []
    if words == ["none"]:
        return ()
    while words:
        name, *words = words
        known = parameters(transformation_factory(name))
        placed = list(itertools.takewhile(lambda word: not isinstance(_value(word), str), words))
        end = len(placed)
        while end < len(words) and words[end] in known:
            end += 2
        named, words = words[len(placed) : end], words[end:]
        kinds = [*known.values()][: len(placed)]
        values = itertools.starmap(_value, itertools.zip_longest(placed, kinds))
        chain.append(transformation(name, *values, **_settings(name, named, known)))
    return tuple(chain)


def _words(said: Iterable[str]) -> list[str]:
    return " ".join(said).replace("=", " ").split()


def _settings(of: str, words: Sequence[str], known: Mapping[str, Parameter]) -> dict[str, Value]:
    """Name -> value."""
    names, values = words[::2], words[1::2]
    if len(names) > len(values):
        raise UserError(f"Each name that {of} is given must be followed by its value; {names[-1]!r} is not.")
    settings = {name: _value(value, known.get(name)) for name, value in zip(names, values, strict=True)}
    if len(settings) < len(names):
        again = next(name for place, name in enumerate(names) if name in names[:place])
        raise UserError(f"{of} is given {again} twice.")
    return settings


def _value(word: str, parameter: Parameter | None = None) -> Value:
    """The word as None, a bool or a number, or else as it is."""
    if word.lower() in _PLAIN:
        return _PLAIN[word.lower()]
    try:
        return int(word) if parameter is not None and parameter.kind == "whole" else float(word)
    except ValueError:
        return word
