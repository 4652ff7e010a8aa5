"""Whole runs side by side: their time, memory and memory traffic."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.errors import JaxRuntimeError

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.loop import EPOCHS
from mnist_jax.runs.records import Run
from timing.epochs import Progress, compile_seconds, elapsed, ours, start
from timing.limits import bytes_per_step


def side_by_side_times(
    lessons: Mapping[str, Lesson],
    data: Dataset,
    counts: Sequence[int],
    epochs: int,
    progress: Progress,
    notify: Callable[[str], object],
) -> list[dict[str, Any]]:
    """One entry per lesson and number of runs.

    If a number of runs of a lesson does not fit, no larger one is tried, and `notify` receives a message.
    """
    entries = []
    too_many: dict[str, int] = {}
    parts = [("side by side", lesson, count) for lesson in lessons for count in counts]
    for _, lesson_id, count in progress(parts):
        if count >= too_many.get(lesson_id, math.inf):
            continue
        try:
            entry = trained_side_by_side(lessons[lesson_id], data, count, epochs)
        except JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            too_many[lesson_id] = count
            notify(f"{count:,} runs of {lesson_id} side by side do not fit in the device's memory.")
        else:
            entries.append({"lesson": lesson_id, **entry})
    return entries


def trained_side_by_side(lesson: Lesson, data: Dataset, count: int, epochs: int) -> dict[str, Any]:
    """Train `count` runs for some epochs, spread evenly over the devices."""
    devices = min(count, len(jax.devices()))
    placement = Placement(side_by_side=math.ceil(count / devices))
    trainer, states = start(lesson, data, [Run(seed) for seed in range(count)], placement)
    compiling, memory = compile_seconds(trainer, states), trainer.memory(states)
    trained = ours(trainer, states)
    seconds = [elapsed(trained.__next__) for _ in range(epochs)]
    moved = count * epochs * data.steps(lesson) * bytes_per_step(lesson)
    return {
        "replicas": count,
        "devices": devices,
        "epochs": epochs,
        "compile_seconds": compiling,
        "epoch_seconds": seconds,
        "seconds": sum(seconds),
        "seconds_per_replica": sum(seconds) / count,
        "nets_per_second": count / (EPOCHS * statistics.median(seconds)),
        "memory_bytes": memory,
        "bytes_per_step": bytes_per_step(lesson),
        "gigabytes_per_second": moved / sum(seconds) / devices / 1e9,
    }
