"""Epochs of ours and of the peers, timed in turns, and seconds to compile ours."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson
from mnist_jax.runs.devices import Placement, Trainer, on_device
from mnist_jax.runs.provenance import cores
from mnist_jax.runs.records import Run
from mnist_jax.train import TrainState
from timing.peers import Peer

# Yields the parts of a measurement, (what, lesson, ...), and shows progress.
Progress = Callable[[Sequence[tuple[Any, ...]]], Iterator[Any]]


def epoch_times(
    lessons: Mapping[str, Lesson],
    data: Dataset,
    repeats: int,
    peers: Mapping[str, Peer],
    share: float,
    progress: Progress,
    yardsticks: Mapping[str, Iterator[None]],
) -> dict[str, Any]:
    """Seconds per epoch and run of ours and the peers, their ratios, and seconds to compile ours.

    Peers train on a share of an epoch, and our variants on a whole one; seconds are scaled to a whole epoch. Those of
    several runs at once are divided by their number.

    Args:
      lessons: lessons to time.
      data: training, validation and test data.
      repeats: number of repeats.
      peers: other ways to train.
      share: share of an epoch for which peers are timed.
      progress: shows progress.
      yardsticks: iterators timed in the same turns, without scaling.
    """
    placed, length = on_device(data), data.epoch_length
    started = {lesson_id: start(lesson, placed) for lesson_id, lesson in lessons.items()}
    compiling: dict[str, list[float]] = {lesson_id: [] for lesson_id in lessons}
    for _, lesson_id in progress(rounds("compile", repeats, lessons)):
        compiling[lesson_id].append(compile_seconds(*started[lesson_id]))
    batch_size = next(iter(lessons.values())).batch_size  # all have the same
    examples = {name: length if name.startswith("ours") else part_of_epoch(length, batch_size, share) for name in peers}
    contestants = {
        lesson_id: {
            **yardsticks,
            "ours": ours(*started[lesson_id]),
            **{name: peer(lesson, examples[name]) for name, peer in peers.items()},
        }
        for lesson_id, lesson in lessons.items()
    }
    seconds = in_turns(contestants, repeats, progress)
    at_once = {"ours_per_core": len(jax.devices()), "torch_per_core": cores()}
    for name, lesson_id in itertools.product(peers, lessons):
        parts = examples[name] / length * at_once.get(name, 1)
        seconds[name][lesson_id] = [each / parts for each in seconds[name][lesson_id]]
    return {
        "epoch_seconds": medians(seconds["ours"]),
        "peer_epoch_seconds": {name: medians(seconds[name]) for name in peers},
        "ratio_to_ours": {name: paired_ratios(seconds[name], seconds["ours"]) for name in peers},
        "ratio_per_core": (
            paired_ratios(seconds["torch_per_core"], seconds["ours_per_core"])
            if {"torch_per_core", "ours_per_core"} <= set(peers)
            else {}
        ),
        "compile_seconds": medians(compiling),
        "seconds": seconds,
        "all_compile_seconds": compiling,
        # Over all lessons and peers.
        "peak_device_memory_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    }


def part_of_epoch(length: int, batch_size: int, share: float) -> int:
    """Number of examples in at least this share of an epoch of `length` examples, in whole batches."""
    return min(length, batch_size * math.ceil(share * length / batch_size))


def start(
    lesson: Lesson, data: Dataset, runs: Sequence[Run] = (Run(0),), placement: Placement = Placement()
) -> tuple[Trainer, TrainState]:
    """The trainer of these runs, and their states before the first step."""
    trainer = Trainer(lesson, data, runs, placement)
    return trainer, trainer.start(runs)


def ours(trainer: Trainer, states: TrainState) -> Iterator[None]:
    """Train for an epoch, as `train_runs` does, at each `next`."""
    while True:
        states, loss, _ = trainer.epoch(states)
        jax.block_until_ready((states, loss))
        yield


def compile_seconds(trainer: Trainer, states: TrainState) -> float:
    """Seconds to trace, lower and compile an epoch, without JAX's caches."""
    cached = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        reset_cache()  # JAX reads the setting only once
        jax.clear_caches()
        return elapsed(lambda: trainer.compile(states))
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
        reset_cache()


def elapsed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = perf_counter()
    work()
    return perf_counter() - began


def in_turns(
    contestants: Mapping[str, Mapping[Any, Iterator[None]]], repeats: int, progress: Progress
) -> dict[Any, dict[str, list[float]]]:
    """Seconds of each repeat, after a warm-up that does not count: contestant -> lesson -> list.

    `contestants` maps each lesson to iterators by name, whose `next` trains for an epoch, or part of one, and waits
    until it is done.
    """
    seconds: dict[Any, dict[str, list[float]]] = {}
    warm_up = [("warm-up", lesson_id) for lesson_id in contestants]
    for what, lesson_id in progress([*warm_up, *rounds("repeat", repeats, contestants)]):
        for name, epochs in contestants[lesson_id].items():
            measured = elapsed(epochs.__next__)
            if what != "warm-up":
                seconds.setdefault(name, {}).setdefault(lesson_id, []).append(measured)
    return seconds


def rounds(what: str, repeats: int, lessons: Iterable[str]) -> list[tuple[str, str]]:
    """The parts of a measurement of all lessons in turns: (`what` 1, lesson), ..."""
    return [(f"{what} {number}", lesson_id) for number in range(1, 1 + repeats) for lesson_id in lessons]


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each lesson's median."""
    return {lesson_id: statistics.median(seconds) for lesson_id, seconds in times.items()}


def paired_ratios(times: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each lesson's median over repeats of the ratio of seconds measured in the same repeat."""
    return {
        lesson_id: statistics.median(a / b for a, b in zip(seconds, others[lesson_id], strict=True))
        for lesson_id, seconds in times.items()
    }
