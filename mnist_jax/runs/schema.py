"""What results.json, and the first line of runs.jsonl, must hold: checked when it is read, trusted afterwards."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from mnist_jax.data import Split
from mnist_jax.data.pieces import LONGEST_NAME
from mnist_jax.errors import UserError
from mnist_jax.lessons import CLASSES, LESSONS, lesson_of_json

_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Size = Annotated[int, Meta(ge=1, le=2**53)]
_Seeds = Annotated[list[_Count], Meta(min_length=1)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Classes = Annotated[list[Annotated[str, Meta(max_length=LONGEST_NAME)]], Meta(min_length=CLASSES, max_length=CLASSES)]
_Loss = Annotated[float, Meta(ge=-1e-3, le=3.5e38)]  # of float32: may be rounded below zero


class _Data(Struct):
    name: str
    source: Annotated[str, Meta(pattern=r"^(tfds(:[\w/]+)?|file|folder|sample|arrays)$")]
    split: Split
    train: _Size
    validation: _Count
    test: _Size
    sha256: str
    where: str | None = None  # not in old records
    classes: _Classes | None = None  # where they are not digits


class _Import(Struct):
    file: str
    sha256: str


class _Config(Struct):
    lessons: dict[str, Any]
    command: str = ""  # not in an old journal
    jax: dict[str, Any] = {}  # not in old records
    imported: _Import | UnsetType = UNSET
    seeds: _Seeds | dict[str, Any] | UnsetType = UNSET  # studies use other names, or these for other things
    epochs: _Count | UnsetType = UNSET


class _Environment(Struct):
    jax: str
    flax: str
    optax: str
    python: str
    device: str
    # Not in old records.
    mnist_jax: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    settings: dict[str, Any] = {}


class _Run(Struct):
    data: _Data
    config: _Config
    environment: _Environment
    lessons: dict[str, dict[str, Any]] = {}
    resumed_in: list[_Environment] = []


class _Lesson(Struct):
    """An entry of `lessons`, made by `lesson_entry`: lists of one value per run."""

    seeds: _Seeds
    test_correct: list[list[_Count]]
    test_loss: list[list[_Loss | None]]
    seconds: list[list[_Seconds]]
    diverged: list[bool]


def fault(run: object) -> str | None:
    """What is wrong with what was read, and where; None if a run or a study could have written it.

    Fields of a single study are not checked: only its own tables use them.
    """
    try:
        checked = msgspec.convert(run, _Run)
    except ValueError as error:  # msgspec's, or of a string that is not Unicode
        return str(error)
    for name in LESSONS:
        if name in checked.config.lessons:
            try:
                lesson_of_json(checked.config.lessons[name])
            except UserError as error:
                return f"{str(error).rstrip('.')} - at `$.config.lessons.{name}`"
    trained = {name: entry for name, entry in checked.lessons.items() if "test_correct" in entry}
    return next((found for name, entry in trained.items() if (found := _lesson_fault(checked, name, entry))), None)


def _lesson_fault(run: _Run, name: str, entry: Mapping[str, Any]) -> str | None:
    """What is wrong with the entry of a trained lesson, and where."""
    where = f"`$.lessons.{name}"
    try:
        lesson = msgspec.convert(entry, _Lesson)
    except ValueError as error:  # msgspec's, or of a string that is not Unicode
        what, _, place = str(error).partition(" - at `$")
        return f"{what} - at {where}{place or '`'}"
    if name not in LESSONS or name not in run.config.lessons:
        return f"No such lesson was trained - at {where}`"
    if isinstance(run.config.epochs, UnsetType):
        return "Object missing required field `epochs` - at `$.config`"
    if lesson.seeds != run.config.seeds:
        return f"Expected the seeds of `$.config` - at {where}.seeds`"
    for field in ("test_correct", "test_loss", "seconds", "diverged"):
        if len(getattr(lesson, field)) != len(lesson.seeds):
            return f"Expected `array` of length {len(lesson.seeds)} - at {where}.{field}`"
    faults = (_curve_fault(run, lesson, number) for number in range(len(lesson.seeds)))
    return next((f"{what} - at {where}.{place}`" for what, place in filter(None, faults)), None)


def _curve_fault(run: _Run, lesson: _Lesson, number: int) -> tuple[str, str] | None:
    """What is wrong with one run's lists, and where in the entry."""
    correct, epochs = lesson.test_correct[number], run.config.epochs
    assert not isinstance(epochs, UnsetType)
    # A run that diverged ended early; an imported net was tested once, without an epoch.
    whole = max(1, epochs)
    tests = max(1, min(len(correct), whole)) if lesson.diverged[number] else whole
    lengths = {"test_correct": tests, "test_loss": tests, "seconds": min(tests, epochs)}
    for field, length in lengths.items():
        if len(getattr(lesson, field)[number]) != length:
            return f"Expected `array` of length {length}", f"{field}[{number}]"
    if max(correct) > run.data.test:
        return f"Expected `int` <= {run.data.test}", f"test_correct[{number}]"
    return None
