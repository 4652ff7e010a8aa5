"""A lesson on the command line: its flags are the fields of `Lesson` and `Optimizer`, their defaults its values."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeAlias

import tyro

from mnist_jax.cli.arguments import OptimizerName, subcommands
from mnist_jax.lessons import IDEAS, LESSONS, Lesson
from mnist_jax.optimizers import Optimizer, optimizer


@dataclasses.dataclass(frozen=True)
class _OptimizerFlags(Optimizer):
    """The lesson's optimizer.

    Attributes:
      name: another one than the lesson's keeps the learning rate and has optax's defaults for the rest.
      hyperparameters: further numbers of the optimizer, as `b1 0.9 b2 0.99`; what is not named stays.
    """

    name: Annotated[OptimizerName, tyro.conf.arg(name="optimizer")]
    hyperparameters: Annotated[
        tuple[tuple[str, float], ...],
        tyro.conf.arg(
            metavar="NAME NUMBER ...", help_behavior_hint=lambda default: f"(default: {default or 'as in optax'})"
        ),
    ] = ()

    def __post_init__(self) -> None:
        pass  # `_changed` makes what checks itself, when all flags are read


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LessonFlags(Lesson):
    """What the lesson fixes."""

    optimizer: _OptimizerFlags

    def __post_init__(self) -> None:
        pass  # `_changed` makes what checks itself, when all flags are read


def _changed(base: Lesson, lesson: _LessonFlags) -> Lesson:
    """The base with what the user's flags change.

    Raises:
      UserError: there is no such lesson.
    """
    old, new = base.optimizer, lesson.optimizer
    kept = old.hyperparameters if new.name == old.name else ()
    # A default comes back as the same object: the user may give the same numbers to another optimizer.
    given = () if new.hyperparameters is old.hyperparameters else new.hyperparameters
    chosen = optimizer(new.name, new.learning_rate, **{**dict(kept), **dict(given)})
    return Lesson(**{**vars(lesson), "optimizer": chosen})


def _subcommand(lesson_id: str, base: Lesson) -> Callable[..., "ChosenLesson"]:
    defaults = _LessonFlags(**{**vars(base), "optimizer": _OptimizerFlags(**vars(base.optimizer))})

    def choose(lesson: _LessonFlags = defaults) -> "ChosenLesson":
        return lesson_id, lambda: _changed(base, lesson)

    choose.__doc__ = IDEAS[lesson_id]
    return choose


if TYPE_CHECKING:
    # Its id, and what makes it, or raises `UserError`.
    ChosenLesson: TypeAlias = tuple[str, Callable[[], Lesson]]
else:
    ChosenLesson = subcommands({lesson_id: _subcommand(lesson_id, base) for lesson_id, base in LESSONS.items()})
