"""A lesson on the command line: its flags are the fields of `Lesson` and `Optimizer`, their defaults its values."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import tyro

from mnist_jax.cli.arguments import OPTIMIZER_NAMES, subcommands
from mnist_jax.cli.optimizer_words import chain_of, find_optimizer, hyperparameters_of, schedule_of
from mnist_jax.lessons import IDEAS, LESSONS, Lesson
from mnist_jax.optimizers import Optimizer, schedule_names
from mnist_jax.optimizers.factories import full_name


def _words(metavar: str, nothing: str) -> Any:
    """For `Annotated`: any number of words, kept as a list for `_changed`; `nothing` is shown for none."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=list,
        is_instance=lambda value: True,
        str_from_instance=lambda value: _shown(value) if value else nothing.split(),
    )


def _shown(value: Any) -> list[str]:
    """A value as words."""
    return [word for part in value for word in _shown(part)] if isinstance(value, tuple) else str(value).split()


@dataclasses.dataclass(frozen=True)
class _OptimizerFlags(Optimizer):
    """The lesson's optimizer.

    Attributes:
      hyperparameters: further settings of the optimizer, such as `b1 0.9 nesterov true`, each a number, a word, true,
        false or none; others stay as they are.
    """

    name: Annotated[
        str,
        tyro.conf.arg(
            name="optimizer",
            metavar="NAME",
            help="an optimizer other than the lesson's keeps its learning rate and takes optax's defaults otherwise; "
            f"{OPTIMIZER_NAMES}",
        ),
    ]
    hyperparameters: Annotated[Any, _words("NAME VALUE ...", "as in optax")] = ()
    schedule: Annotated[
        Any,
        _words("NAME [NAME VALUE ...]", "none"),
        tyro.conf.arg(
            help="how the learning rate changes, such as `warmup_cosine warmup_fraction 0.05`; lengths are in epochs, "
            f"fractions of the run, or steps; one of {', '.join(schedule_names())}"
        ),
    ] = None
    chain: Annotated[
        Any,
        _words("NAME [VALUE ...] [NAME VALUE ...] ...", "none"),
        tyro.conf.arg(
            help="transformations of the gradients before the optimizer, in this order, such as `clip_by_global_norm "
            "1.0 add_decayed_weights 1e-4 mask kernels`"
        ),
    ] = ()

    def __post_init__(self) -> None:
        pass  # `_changed` makes what checks itself, when all flags are read


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LessonFlags(Lesson):
    """What the lesson specifies."""

    optimizer: _OptimizerFlags

    def __post_init__(self) -> None:
        pass  # `_changed` makes what checks itself, when all flags are read


def _changed(base: Lesson, lesson: _LessonFlags) -> Lesson:
    """The base lesson with the changes that the user's flags make.

    Raises:
      UserError: the changed lesson is invalid.
    """
    old, new = base.optimizer, lesson.optimizer
    find_optimizer(new.name)
    name = full_name(new.name)
    hyperparameters: dict[str, Any] = dict(old.hyperparameters if name == old.name else ())
    if isinstance(new.hyperparameters, list):
        hyperparameters |= hyperparameters_of(name, new.hyperparameters)
    chosen = Optimizer(
        name,
        new.learning_rate,
        tuple(sorted(hyperparameters.items())),
        schedule_of(new.schedule) if isinstance(new.schedule, list) else new.schedule,
        chain_of(new.chain) if isinstance(new.chain, list) else new.chain,
    )
    chosen.check()
    return Lesson(**{**vars(lesson), "optimizer": chosen})


def _subcommand(lesson_id: str, base: Lesson) -> Callable[..., "ChosenLesson"]:
    defaults = _LessonFlags(**{**vars(base), "optimizer": _OptimizerFlags(**vars(base.optimizer))})

    def choose(lesson: _LessonFlags = defaults) -> "ChosenLesson":
        return lesson_id, lambda: _changed(base, lesson)

    choose.__doc__ = IDEAS[lesson_id]
    return choose


if TYPE_CHECKING:
    # The lesson's id, and a function that makes it or raises `UserError`.
    ChosenLesson: TypeAlias = tuple[str, Callable[[], Lesson]]
else:
    ChosenLesson = subcommands({lesson_id: _subcommand(lesson_id, base) for lesson_id, base in LESSONS.items()})
