"""The six lessons: the whole course on one screen, each the lesson before with one field replaced."""

import dataclasses
import math
from itertools import pairwise
from reprlib import repr as short
from typing import Any, Literal, cast, get_args

from mnist_jax.errors import UserError, check_choice
from mnist_jax.optimizers import Optimizer, Schedule, Transformation, a_number, is_number, is_whole, optimizer

IMAGE_SHAPE = (28, 28)
PIXELS = math.prod(IMAGE_SHAPE)
CLASSES = 10
DIGITS = tuple(map(str, range(CLASSES)))  # class names, unless the data set has its own

Activation = Literal["sigmoid", "relu", "tanh", "gelu"]
Initialisation = Literal["pytorch", "he"]
Dtype = Literal["float32", "float64"]
ACTIVATIONS, INITIALISATIONS, DTYPES = map(get_args, (Activation, Initialisation, Dtype))

# Far more than MNIST needs, but less than would take minutes to compile or exceed a machine's memory.
MOST_LAYERS = 20
MOST_PARAMETERS = 100_000_000  # 0.4 GB in float32; the gradients and Adam's two moments take as much again each
MOST_ACTIVATIONS = 2**28  # per batch: 1 GB in float32; the course's nets reach it with batches of 170,000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """Everything that a lesson specifies; hashable, so that jit can take it as a static argument.

    Attributes:
      hidden: widths of the hidden layers; each is dense, batch norm (if on), activation, dropout.
      activation: activation function of the hidden layers.
      dropout_rate: probability that a hidden output is dropped, in [0, 1).
      batch_norm: whether each hidden block has batch norm.
      initialisation: `pytorch` (kernel and bias as torch.nn.Linear's) or `he` (He uniform kernels).
      optimizer: optimizer with its hyperparameters, schedule and chain.
      batch_size: examples per step.
      dtype: type of parameters and arithmetic; `float64` needs jax_enable_x64.

    Raises:
      UserError: a field has the wrong type or is out of range, or the net is too large (`MOST_PARAMETERS`,
        `MOST_ACTIVATIONS`) or too deep (`MOST_LAYERS`).
    """

    hidden: tuple[int, ...]
    activation: Activation
    dropout_rate: float
    batch_norm: bool
    initialisation: Initialisation
    optimizer: Optimizer
    batch_size: int
    dtype: Dtype

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, tuple) or not all(map(is_whole, self.hidden)):
            raise UserError(f"Hidden widths must be a tuple of Python ints, not {short(self.hidden)}.")
        if any(width < 1 for width in self.hidden) or len(self.hidden) > MOST_LAYERS:
            raise UserError(
                f"A net has at most {MOST_LAYERS} hidden layers, each of at least 1 unit, not {short(self.hidden)}."
            )
        check_choice("activation", self.activation, ACTIVATIONS)
        if not is_number(self.dropout_rate) or not 0 <= self.dropout_rate < 1:
            raise UserError(
                f"The dropout rate must be {a_number(self.dropout_rate)} of at least 0 and below 1, "
                f"not {self.dropout_rate!r}."
            )
        if not isinstance(self.batch_norm, bool):
            raise UserError(f"Batch norm must be True or False, not {self.batch_norm!r}.")
        check_choice("initialisation", self.initialisation, INITIALISATIONS)
        if not isinstance(self.optimizer, Optimizer):
            raise UserError(f"The optimizer must be an Optimizer, not {self.optimizer!r}.")
        if not is_whole(self.batch_size) or self.batch_size < 1:
            wanted = a_number(self.batch_size, whole=True)
            raise UserError(f"The batch size must be {wanted} of at least 1, not {self.batch_size!r}.")
        check_choice("dtype", self.dtype, DTYPES)
        if self.parameters > MOST_PARAMETERS:
            raise UserError(
                f"The net would have more than {MOST_PARAMETERS:,} parameters; make its hidden layers smaller, they "
                f"are {short(self.hidden)}."
            )
        check_activations(self, self.batch_size)
        check_batches(self, self.batch_size)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from the pixels to the classes; a dense layer connects each to the next."""
        return (PIXELS, *self.hidden, CLASSES)

    @property
    def parameters(self) -> int:
        """Number of trainable parameters, batch norm's included."""
        dense = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(self.widths))
        return dense + 2 * sum(self.hidden) * self.batch_norm

    @property
    def activations(self) -> int:
        """Number of activations per example, input pixels included."""
        return sum(self.widths)


def check_activations(lesson: Lesson, examples: int) -> None:
    """Raise `UserError` if the net cannot be applied to this many examples at once."""
    if examples * lesson.activations > MOST_ACTIVATIONS:
        raise UserError(
            f"A net with hidden layers {short(lesson.hidden)} cannot be applied to {examples:,} images at once: that "
            f"takes more than {MOST_ACTIVATIONS:,} activations; make the layers or the batch smaller."
        )


def single_example() -> UserError:
    """The error for a batch of one example with batch norm."""
    return UserError("Batch norm needs batches of at least 2: one example's variance is 0.")


def check_batches(lesson: Lesson, examples: int) -> None:
    """Raise `UserError` if the last batch would give batch norm a single example, whose variance is 0."""
    last = examples % lesson.batch_size or lesson.batch_size
    if not lesson.batch_norm or last > 1:
        return
    if examples == 1 or lesson.batch_size == 1:
        raise single_example()
    other = next(size for size in range(lesson.batch_size + 1, examples + 1) if examples % size != 1)
    raise UserError(
        f"Batch norm cannot train on a batch of one example, and {examples:,} examples in batches of "
        f"{lesson.batch_size:,} leave one over; choose another batch size, such as {other:,}."
    )


# Beside each lesson: its test accuracy after 10 epochs, mean of 5 seeds, from
# `python experiments/ladder.py --data data/mnist --split notebooks --seeds 5`.
MLP = Lesson(
    hidden=(512, 256),
    activation="sigmoid",
    dropout_rate=0.0,
    batch_norm=False,
    initialisation="pytorch",
    optimizer=optimizer("sgd", 0.01, momentum=0.5),
    batch_size=32,
    dtype="float32",
)  # 90.31 %
DROPOUT = dataclasses.replace(MLP, dropout_rate=0.5)  # 86.66 %
RELU = dataclasses.replace(DROPOUT, activation="relu")  # 97.38 %
BATCH_NORM = dataclasses.replace(RELU, batch_norm=True)  # 98.04 %
HE = dataclasses.replace(BATCH_NORM, initialisation="he")  # 97.23 %
ADAM = dataclasses.replace(HE, optimizer=optimizer("adam", 0.01))  # 97.98 %

LESSONS: dict[str, Lesson] = {
    "mlp": MLP,
    "dropout": DROPOUT,
    "relu": RELU,
    "batch_norm": BATCH_NORM,
    "he": HE,
    "adam": ADAM,
}


# What each lesson changes, and why.
IDEAS: dict[str, str] = {
    "mlp": "Two hidden layers of sigmoids, trained by gradient descent with momentum: where the course starts.",
    "dropout": (
        "In each training step a new random half of the hidden outputs is set to zero and the others are doubled, so "
        "that no unit can rely on another."
    ),
    "relu": (
        "max(0, x) takes the sigmoid's place: its slope is 1 wherever a unit is active, while the sigmoid's is 1/4 at "
        "most and shrinks every gradient that passes."
    ),
    "batch_norm": (
        "Each hidden unit's input is brought to mean 0 and variance 1 over the batch, then scaled and shifted by two "
        "numbers that are learned, so that the next layers meet values of a steady size."
    ),
    "he": (
        "Kernels start uniform on ±√(6/fan_in) instead of ±1/√fan_in: the variance 2/fan_in keeps the size of "
        "signals from layer to layer under ReLU."
    ),
    "adam": (
        "Each weight gets a step size of its own, from running means of its gradient and of the gradient's square, "
        "where SGD has one for all."
    ),
}


def lesson_by_id(lesson_id: str) -> Lesson:
    """The lesson with this id; an unknown id raises `UserError`, which lists the valid ones."""
    check_choice("lesson", lesson_id, LESSONS)
    return LESSONS[lesson_id]


def position(lesson_id: str) -> int:
    """A lesson's place in the course, from 0."""
    return list(LESSONS).index(lesson_id)


# Fields of an optimizer that old records lack; new ones omit them, too, at these defaults.
_ADDED: dict[str, Any] = {"schedule": None, "chain": ()}


def lesson_to_json(lesson: Lesson) -> dict[str, Any]:
    """The lesson's fields for JSON, as in results.json."""
    return {**dataclasses.asdict(lesson), "optimizer": optimizer_to_json(lesson.optimizer)}


def optimizer_to_json(chosen: Optimizer) -> dict[str, Any]:
    """An optimizer's fields for JSON."""
    values = dataclasses.asdict(chosen)
    return {name: value for name, value in values.items() if name not in _ADDED or value != _ADDED[name]}


def lesson_of_json(values: Any) -> Lesson:
    """The lesson that `lesson_to_json` turned into `values`, once they have been through JSON.

    Raises:
      UserError: `values` are not those of a valid lesson.
    """
    if not isinstance(values, dict) or not isinstance(values.get("optimizer"), dict):
        raise _other_lesson()
    chosen = {**_ADDED, **values["optimizer"]}
    schedule, chain = chosen["schedule"], chosen["chain"]
    chosen["schedule"] = None if schedule is None else _value(Schedule, schedule)
    chosen["chain"] = [_value(Transformation, link) for link in chain] if isinstance(chain, list) else chain
    return cast(Lesson, _value(Lesson, {**values, "optimizer": _value(Optimizer, chosen)}))


def _value(kind: type[Any], fields: Any) -> Any:
    """A dataclass from its fields as read from JSON."""
    if not isinstance(fields, dict) or set(fields) != {field.name for field in dataclasses.fields(kind)}:
        raise _other_lesson()
    return kind(**{name: _tupled(value) for name, value in fields.items()})


def _other_lesson() -> UserError:
    return UserError("The run's lesson is not one that this version of the program writes.")


def for_run(lesson: Lesson, *, steps_per_epoch: int, epochs: int) -> Lesson:
    """The lesson with its schedule, if it has one, set to a run of this length.

    Raises:
      UserError: see `Optimizer.for_run`.
    """
    if lesson.optimizer.schedule is None:
        return lesson
    known = lesson.optimizer.for_run(steps_per_epoch=steps_per_epoch, epochs=epochs)
    return dataclasses.replace(lesson, optimizer=known)


def _tupled(value: Any) -> Any:
    """Turn lists back into tuples, which JSON lacks."""
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def changes(lesson: Lesson, before: Lesson) -> dict[str, tuple[object, object]]:
    """Fields in which two lessons differ: name -> (value before, value in `lesson`)."""
    pairs = {
        field.name: (getattr(before, field.name), getattr(lesson, field.name)) for field in dataclasses.fields(Lesson)
    }
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}


def what_changed(lesson_id: str, start: str = "where it starts") -> str:
    """One line for tables: what this lesson changes in the lesson before it."""
    if position(lesson_id) == 0:
        return start
    changed = changes(LESSONS[lesson_id], list(LESSONS.values())[position(lesson_id) - 1])
    return ", ".join(f"{name}: {_words(old)} -> {_words(new)}" for name, (old, new) in changed.items())


def _words(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
