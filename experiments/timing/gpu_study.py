"""`--gpu-study`: what it measures by default, seconds to an accuracy, and how many runs to train side by side.

One net does not keep a GPU busy: its throughput should grow with the runs side by side, up to some number. The smallest
number that is about as fast as the best is chosen, since every run takes memory and a group finishes as a whole.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson
from mnist_jax.runs.devices import memory_limit, most_side_by_side
from mnist_jax.runs.loop import train_runs
from mnist_jax.runs.records import Run, RunRecord
from timing.epochs import Progress
from timing.peers import PeerName

STUDIED = ("he", "adam")  # lessons: the same net with each of the course's optimizers
TARGETS = (97, 98)  # percent of the test images
MOST_EPOCHS = 20  # of a run to the targets
NEARLY = 0.95  # share of the best throughput that counts as good enough
OF_MEMORY = 0.9  # share of memory to use; the rest is for what is not planned, such as further copies

# Values of options that the user did not give.
USUAL = {"repeats": 5, "peers": get_args(PeerName)[:7], "peer_share": 0.2, "replicas": (), "replica_epochs": 10}
IN_SMALL = USUAL | {"repeats": 3, "peer_share": 0.1, "replicas": (1, 2, 4), "replica_epochs": 1}
IN_FULL = {
    "repeats": 5,
    "peers": get_args(PeerName),
    "peer_share": 1.0,  # otherwise the fixed cost of an epoch would be scaled up
    "replicas": tuple(2**power for power in range(11)),
    "replica_epochs": 3,
}


def defaults(backend: str, *, gpu_study: bool) -> Mapping[str, Any]:
    """Default options; a CPU runs the study on a small scale."""
    if not gpu_study:
        return USUAL
    return IN_SMALL if backend == "cpu" else IN_FULL


def study_results(
    lessons: Mapping[str, Lesson], data: Dataset, entries: Sequence[Mapping[str, Any]], progress: Progress
) -> dict[str, Any]:
    """What the study measures besides epochs and runs side by side.

    Args:
      lessons: lessons to train to the targets.
      data: digits to train on.
      entries: what `side_by_side_times` returns.
      progress: shows progress.

    Returns:
      For each lesson one run to the targets, its seconds to each of them, and the chosen number of runs side by side.
    """
    runs = {
        lesson_id: run_to_targets(lessons[lesson_id], data)
        for _, lesson_id in progress([("to its accuracy", lesson_id) for lesson_id in lessons])
    }
    curves = {
        lesson_id: curve(entries, lesson_id, most_side_by_side(lessons[lesson_id], data)) for lesson_id in lessons
    }
    return {
        "runs": {lesson_id: record.to_json() for lesson_id, record in runs.items()},
        "seconds_to": {
            lesson_id: {str(target): seconds_to(target, record, data.test.size) for target in TARGETS}
            for lesson_id, record in runs.items()
        },
        "memory_limit_bytes": memory_limit(),
        "side_by_side": {
            lesson_id: chosen_width(found, memory_limit()) for lesson_id, found in curves.items() if found
        },
    }


def run_to_targets(lesson: Lesson, data: Dataset) -> RunRecord:
    """Train one run until an epoch ends at the highest target, or for `MOST_EPOCHS`."""
    epochs = []
    for epoch in train_runs(lesson, data, [Run(0)], epochs=MOST_EPOCHS):
        epochs.append(epoch)
        if 100 * epoch.test_correct >= max(TARGETS) * data.test.size:
            break
    return RunRecord.of_epochs(epochs)


def seconds_to(target: int, run: RunRecord, images: int) -> float | None:
    """Seconds of training until, after an epoch, `target` percent of the test images are right; None if never."""
    taken = zip(itertools.accumulate(run.seconds), run.test_correct, strict=True)
    return next((seconds for seconds, correct in taken if 100 * correct >= target * images), None)


@dataclasses.dataclass(frozen=True)
class Point:
    """A measurement of runs side by side, per device.

    Attributes:
      width: number of runs that the device trains at a time.
      throughput: nets per second.
      memory: memory in bytes.
    """

    width: int
    throughput: float
    memory: int


def curve(entries: Iterable[Mapping[str, Any]], lesson_id: str, most: int) -> list[Point]:
    """A lesson's points with at most `most` runs per device, which is what the commands accept."""
    points = [
        Point(
            math.ceil(entry["replicas"] / entry["devices"]),
            entry["nets_per_second"] / entry["devices"],
            entry["memory_bytes"],
        )
        for entry in entries
        if entry["lesson"] == lesson_id
    ]
    return [point for point in points if point.width <= most]


def chosen_width(points: Sequence[Point], limit: int) -> int:
    """The smallest width with at least `NEARLY` of the best throughput, among those within `OF_MEMORY` of the limit.

    If none is within it, the smallest of all.
    """
    fitting = [point for point in points if point.memory <= OF_MEMORY * limit]
    if not fitting:
        return min(point.width for point in points)
    best = max(point.throughput for point in fitting)
    return min(point.width for point in fitting if point.throughput >= NEARLY * best)
