"""A lesson on the command line: its flags are the fields of `Lesson` and `Optimizer`, their defaults its values."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import tyro

from mnist_jax.cli.arguments import OptimizerName, subcommands
from mnist_jax.errors import UserError
from mnist_jax.lessons import IDEAS, LESSONS, Lesson
from mnist_jax.optimizers import Optimizer, Schedule, Transformation, optimizer, schedule
from mnist_jax.optimizers.parameters import Value


def _schedule(words: Sequence[str]) -> Schedule:
    """Of a name, and names each with its value.

    Raises:
      UserError: there is no such schedule, or it has no such numbers.
    """
    name, *rest = words or [""]
    if len(rest) % 2:
        raise UserError(f"Each name after --schedule {name} must have its number; {rest[-1]!r} has none.")
    return schedule(name, **dict(zip(rest[::2], map(_setting, rest[1::2]), strict=True)))


def _setting(word: str) -> Value:
    """A number, true or false, or else the word itself."""
    if word in ("true", "false"):
        return word == "true"
    try:
        return float(word)
    except ValueError:
        return word


_SCHEDULE = tyro.constructors.PrimitiveConstructorSpec(
    nargs="*",
    metavar="NAME [NAME NUMBER ...]",
    instance_from_str=_schedule,
    is_instance=lambda value: isinstance(value, Schedule | None),
    str_from_instance=lambda value: [str(value or "none")],
)


@dataclasses.dataclass(frozen=True)
class _OptimizerFlags(Optimizer):
    """The lesson's optimizer.

    Attributes:
      name: another one than the lesson's keeps the learning rate and has optax's defaults for the rest.
      hyperparameters: further numbers of the optimizer, as `b1 0.9 b2 0.99`; what is not named stays.
      schedule: how the learning rate changes, and its numbers, as `warmup_cosine_decay warmup_fraction 0.05`; a length
        is so many epochs, fraction of the run, or steps.
    """

    name: Annotated[OptimizerName, tyro.conf.arg(name="optimizer")]
    hyperparameters: Annotated[
        tuple[tuple[str, float], ...],
        tyro.conf.arg(
            metavar="NAME NUMBER ...", help_behavior_hint=lambda default: f"(default: {default or 'as in optax'})"
        ),
    ] = ()
    schedule: Annotated[Schedule | None, _SCHEDULE] = None
    chain: tyro.conf.Suppress[tuple[Transformation, ...]] = ()

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
    kept: Any = old.hyperparameters if new.name == old.name else ()
    # A default comes back as the same object: the user may give the same numbers to another optimizer.
    given = () if new.hyperparameters is old.hyperparameters else new.hyperparameters
    chosen = optimizer(new.name, new.learning_rate, schedule=new.schedule, **{**dict(kept), **dict(given)})
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
