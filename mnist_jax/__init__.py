"""The MNIST lessons as pure functions in JAX and Flax.

    state = init_state(LESSONS["adam"], jax.random.key(0))
    state, loss = train_epoch(state, examples)
    metrics = evaluate(state, examples)

This needs jax, flax, optax, chex and numpy only; `mnist_jax.data.load` fetches the digits.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_jax.errors import UserError
    from mnist_jax.lessons import LESSONS, Lesson
    from mnist_jax.model import Network
    from mnist_jax.optimizers import (
        OPTIMIZERS,
        Optimizer,
        Schedule,
        Transformation,
        optimizer,
        register,
        schedule,
        transformation,
    )
    from mnist_jax.train import (
        Examples,
        Metrics,
        TrainState,
        evaluate,
        init_state,
        logits,
        predict,
        train_epoch,
        train_step,
    )

__all__ = [
    "LESSONS",
    "OPTIMIZERS",
    "Examples",
    "Lesson",
    "Metrics",
    "Network",
    "Optimizer",
    "Schedule",
    "TrainState",
    "Transformation",
    "UserError",
    "evaluate",
    "init_state",
    "logits",
    "optimizer",
    "predict",
    "register",
    "schedule",
    "train_epoch",
    "train_step",
    "transformation",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing a submodule does not import JAX."""
    if name in __all__:
        for module in ("errors", "lessons", "model", "optimizers", "train"):
            if hasattr(found := importlib.import_module(f"mnist_jax.{module}"), name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
