"""Packages that some forms need, imported where they are used."""

from importlib import import_module
from typing import Any

from mnist_jax.errors import UserError


def needed(module: str, what: str) -> Any:
    """The module, or a sentence that says how to install it.

    Raises:
      UserError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"{what} need {module.split('.')[0]}; install it with: pip install '.[data]'") from error
