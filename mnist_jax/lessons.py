"""The six lessons: the whole course on one screen, each the lesson before with one field replaced."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mnist_jax.errors import UserError, check_choice
from mnist_jax.optimizers import Optimizer, optimizer

ACTIVATIONS = ("sigmoid", "relu", "tanh", "gelu")
INITIALISATIONS = ("pytorch", "he")
DTYPES = ("float32", "float64")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """All that a lesson fixes; a hashable value, so jit takes it as static.

    Attributes:
      hidden: widths of the hidden layers; each is dense, batch norm (if on), activation, dropout.
      activation: one of `ACTIVATIONS`.
      dropout_rate: probability that a hidden output is dropped, in [0, 1).
      batch_norm: whether each hidden block normalises its batch.
      initialisation: `pytorch` (kernel and bias as torch.nn.Linear's) or `he` (He uniform kernels).
      optimizer: what turns gradients into updates.
      batch_size: examples a step.
      dtype: of parameters and arithmetic; `float64` needs jax_enable_x64.

    Raises:
      UserError: a field outside its range.
    """

    hidden: tuple[int, ...]
    activation: str
    dropout_rate: float
    batch_norm: bool
    initialisation: str
    optimizer: Optimizer
    batch_size: int
    dtype: str

    def __post_init__(self) -> None:
        if any(not 1 <= width < 2**31 for width in self.hidden):
            raise UserError(f"Hidden widths must be 1 to {2**31 - 1}, not {self.hidden}.")
        check_choice("activation", self.activation, ACTIVATIONS)
        if not 0 <= self.dropout_rate < 1:
            raise UserError(f"The dropout rate must be at least 0 and below 1, not {self.dropout_rate}.")
        check_choice("initialisation", self.initialisation, INITIALISATIONS)
        if self.batch_size < 1:
            raise UserError(f"The batch size must be at least 1, not {self.batch_size}.")
        if self.batch_norm and self.batch_size == 1:
            raise UserError("Batch norm needs batches of at least 2: one example's variance is 0.")
        check_choice("dtype", self.dtype, DTYPES)


MLP = Lesson(
    hidden=(512, 256),
    activation="sigmoid",
    dropout_rate=0.0,
    batch_norm=False,
    initialisation="pytorch",
    optimizer=optimizer("sgd", 0.01, momentum=0.5),
    batch_size=32,
    dtype="float32",
)
DROPOUT = dataclasses.replace(MLP, dropout_rate=0.5)
RELU = dataclasses.replace(DROPOUT, activation="relu")
BATCH_NORM = dataclasses.replace(RELU, batch_norm=True)
HE = dataclasses.replace(BATCH_NORM, initialisation="he")
ADAM = dataclasses.replace(HE, optimizer=optimizer("adam", 0.01))

LESSONS: dict[str, Lesson] = {
    "mlp": MLP,
    "dropout": DROPOUT,
    "relu": RELU,
    "batch_norm": BATCH_NORM,
    "he": HE,
    "adam": ADAM,
}


# What each lesson changed, and why, in a sentence.
IDEAS: dict[str, str] = {
    "mlp": "Two hidden layers of sigmoids, trained by gradient descent with momentum: where the course starts.",
    "dropout": (
        "In each training step half of the hidden outputs, drawn anew, are set to zero and the others doubled, so that "
        "no unit can rely on another."
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
    """The lesson of this id; a wrong id raises `UserError` and lists the right ones."""
    check_choice("lesson", lesson_id, LESSONS)
    return LESSONS[lesson_id]


def lesson_of_json(values: Mapping[str, Any]) -> Lesson:
    """The lesson of which `values` is `dataclasses.asdict`, as JSON gives it back.

    Raises:
      UserError: it is none.
    """
    try:
        chosen = values["optimizer"]
        numbers = tuple((str(name), float(value)) for name, value in chosen["hyperparameters"])
        optimizer = Optimizer(chosen["name"], float(chosen["learning_rate"]), numbers)
        return Lesson(**{**values, "hidden": tuple(values["hidden"]), "optimizer": optimizer})
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError("The run's lesson is not one that this version of the program writes.") from error


def changes(lesson: Lesson, before: Lesson) -> dict[str, tuple[object, object]]:
    """Fields in which two lessons differ: name -> (value before, value in `lesson`)."""
    pairs = {
        field.name: (getattr(before, field.name), getattr(lesson, field.name)) for field in dataclasses.fields(Lesson)
    }
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}


def what_changed(lesson_id: str) -> str:
    """One line for tables: what this lesson changes in the lesson before it."""
    ids = list(LESSONS)
    position = ids.index(lesson_id)
    if position == 0:
        return "where it starts"
    changed = changes(LESSONS[lesson_id], LESSONS[ids[position - 1]])
    return ", ".join(f"{name}: {_words(old)} -> {_words(new)}" for name, (old, new) in changed.items())


def _words(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
