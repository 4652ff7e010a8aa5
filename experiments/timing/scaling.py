"""How an epoch's time grows with the number of examples, the batch size and the net's widths."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson
from mnist_jax.runs.devices import on_device
from timing.epochs import Progress, in_turns, ours, start

SCALED = ("mlp", "adam")  # lessons
EXAMPLES = 60_000  # per epoch, unless varied
SCALES: dict[str, tuple[Any, ...]] = {
    "examples": (3_750, 7_500, 15_000, 30_000, 60_000),
    "batch_size": (8, 32, 128, 512, 2048),
    "width": (0.25, 0.5, 1.0, 2.0),  # of hidden layers, as multiples of the lesson's
}


def scaling_times(lessons: Mapping[str, Lesson], data: Dataset, repeats: int, progress: Progress) -> dict[str, Any]:
    """What is varied -> its `values`, the `work` expected for each, and `seconds`: lesson -> repeats for each value.

    Only for the lessons in `SCALED`; empty if `lessons` has none of them.
    """
    chosen = {lesson_id: lesson for lesson_id, lesson in lessons.items() if lesson_id in SCALED}
    if not chosen:
        return {}
    placed, first = on_device(data), next(iter(chosen.values()))
    points = [(varied, value) for varied, values in SCALES.items() for value in values]
    contestants = {
        lesson_id: {point: ours(*start(*at(lesson, placed, *point))) for point in points}
        for lesson_id, lesson in chosen.items()
    }
    seconds = in_turns(contestants, repeats, progress)
    return {
        varied: {
            "values": list(values),
            "work": [work(*at(first, data, varied, value))[varied] for value in values],
            "seconds": {lesson_id: [seconds[varied, value][lesson_id] for value in values] for lesson_id in chosen},
        }
        for varied, values in SCALES.items()
    }


def at(lesson: Lesson, data: Dataset, varied: str, value: Any) -> tuple[Lesson, Dataset]:
    """The lesson, and the data with its epoch's length, with one of `SCALES` set to a value."""
    examples = value if varied == "examples" else EXAMPLES
    if varied == "batch_size":
        lesson = dataclasses.replace(lesson, batch_size=value)
    if varied == "width":
        lesson = dataclasses.replace(lesson, hidden=tuple(max(1, round(width * value)) for width in lesson.hidden))
    return lesson, dataclasses.replace(data, epoch_length=examples)


def work(lesson: Lesson, data: Dataset) -> dict[str, int]:
    """What an epoch's time might be proportional to, by what is varied."""
    return {"examples": data.epoch_length, "batch_size": data.steps(lesson), "width": lesson.parameters}
