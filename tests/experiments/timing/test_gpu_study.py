"""Seconds to an accuracy, and the rule by which the number of runs side by side is chosen."""

import pytest
from timing import gpu_study
from timing.gpu_study import IN_FULL, IN_SMALL, USUAL, Point, chosen_width, curve, defaults, seconds_to, study_results

from mnist_jax import LESSONS
from mnist_jax.runs.records import Epoch, Run, RunRecord

GB = 10**9


def points(*throughputs, memory=0.1):
    """Points for 1, 2, 4, ... runs, each of which takes `memory` GB."""
    return [Point(2**i, throughput, round(2**i * memory * GB)) for i, throughput in enumerate(throughputs)]


@pytest.mark.parametrize(
    ("curve", "width"),
    [
        (points(1, 2, 4, 8, 16), 16),  # it grows
        (points(4, 3, 2), 1),  # a CPU's
        (points(10, 94, 95, 100, 99), 4),  # the smallest with 95 % of the best
        (points(10, 95, 90, 100), 2),
        (points(10, 20, 40, 80, memory=2), 4),  # of 10 GB, 8 take 16
        (points(10, 20, 40, 80, memory=1.125), 8),  # 9 of 10 GB are 90 %
        (points(10, 20, 40, 80, memory=1.126), 4),
        (points(10, 38, 40, 1e9, memory=2), 2),  # what does not fit is no measure either
        (points(10, 20, memory=20), 1),  # none fits
        ([Point(3, 5, 0)], 3),
        ([Point(8, 100, 0), Point(1, 96, 0)], 1),  # in any order
    ],
)
def test_smallest_width_near_the_best_throughput_that_fits_is_chosen(curve, width):
    assert chosen_width(curve, 10 * GB) == width


def test_a_point_is_of_one_device_and_of_what_commands_take():
    entries = [
        {"lesson": lesson_id, "replicas": runs, "devices": min(runs, 4), "nets_per_second": 12, "memory_bytes": runs}
        for lesson_id in ("he", "adam")
        for runs in (2, 10, 16)
    ]
    assert curve(entries, "adam", 4) == [Point(1, 6, 2), Point(3, 3, 10), Point(4, 3, 16)]
    assert curve(entries, "adam", 3) == [Point(1, 6, 2), Point(3, 3, 10)]


def record(*correct):
    seconds = [float(2**i) for i in range(len(correct))]
    rest = {"test_loss": [], "train_loss": [], "diverged": False}
    return RunRecord(seed=0, test_correct=list(correct), seconds=seconds, **rest)


@pytest.mark.parametrize(
    ("correct", "seconds"), [([97], 1), ([96, 97, 98], 3), ([90, 96, 98, 90], 7), ([96, 96], None), ([98, 90], 1)]
)
def test_seconds_are_those_up_to_the_first_epoch_at_the_target(correct, seconds):
    assert seconds_to(97, record(*correct), 100) == seconds


def test_an_exact_hit_is_a_hit():
    assert seconds_to(97, record(9_699, 9_700), 10_000) == 3


def test_a_run_ends_with_the_highest_target(dataset, monkeypatch):
    """18 of 20 images are 90 %."""
    asked = []
    monkeypatch.setattr(gpu_study, "TARGETS", (90, 98))

    def train_runs(lesson, data, runs, *, epochs):
        asked.append((runs, epochs))
        for number, correct in enumerate([18, 19, 20, 20], start=1):
            yield Epoch(runs[0], number, 0.5, 0.5, correct, None, seconds=float(number))

    monkeypatch.setattr(gpu_study, "train_runs", train_runs)
    entry = {"lesson": "he", "replicas": 2, "devices": 1, "nets_per_second": 5, "memory_bytes": 1}
    lessons = {"he": LESSONS["he"], "adam": LESSONS["adam"]}
    found = study_results(lessons, dataset, [entry, {**entry, "replicas": 4, "nets_per_second": 6}], iter)
    assert asked == [([Run(0)], gpu_study.MOST_EPOCHS)] * 2
    assert found["runs"]["he"]["test_correct"] == [18, 19, 20]
    assert found["seconds_to"]["he"] == {"90": 1.0, "98": 6.0}
    assert found["side_by_side"] == {"he": 4}  # nothing of adam fitted
    monkeypatch.setattr(gpu_study, "memory_limit", lambda: 1)
    assert study_results(lessons, dataset, [entry], iter)["memory_limit_bytes"] == 1
    monkeypatch.setattr(gpu_study, "most_side_by_side", lambda *_: 1)
    assert study_results(lessons, dataset, [entry], iter)["side_by_side"] == {}


def test_a_cpu_runs_the_study_on_a_small_scale():
    assert defaults("cpu", gpu_study=True) == IN_SMALL
    assert defaults("gpu", gpu_study=True) == defaults("tpu", gpu_study=True) == IN_FULL
    assert defaults("gpu", gpu_study=False) == USUAL
    assert IN_FULL["replicas"] == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
