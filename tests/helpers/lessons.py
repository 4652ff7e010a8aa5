"""Lessons to be tested."""

import dataclasses

import pytest

from mnist_jax import LESSONS, optimizer

TINY = dataclasses.replace(LESSONS["mlp"], hidden=(3,))
# Where the width is not what is tested.
NARROW = {lesson_id: dataclasses.replace(lesson, hidden=(16, 8)) for lesson_id, lesson in LESSONS.items()}

each_lesson = pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)


def exact(lesson, **changes):
    """The lesson in float64, where sums in another order hardly matter.

    Adam's epsilon is larger: a bias before batch norm has a noisy gradient of zero, which Adam divides by its size.
    """
    if lesson.optimizer.name == "adam":
        changes["optimizer"] = optimizer("adam", lesson.optimizer.learning_rate, eps=1e-4)
    return dataclasses.replace(lesson, dtype="float64", **changes)


def first_and_last_quick(lessons):
    """A test of each lesson, of which the quick tests have the first and the last: the plainest net, and all parts."""
    first, *between, last = lessons
    slow = [pytest.param(lessons[lesson_id], id=lesson_id, marks=pytest.mark.slow) for lesson_id in between]
    ends = [pytest.param(lessons[lesson_id], id=lesson_id) for lesson_id in (first, last)]
    return pytest.mark.parametrize("lesson", [*ends, *slow])
