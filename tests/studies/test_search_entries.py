"""What is computed from the entries of a comparison's results.json."""

import math
from fractions import Fraction

import pytest

from mnist_jax.studies.search import (
    TARGETS,
    Saving,
    at_chance,
    best_trials,
    chosen_trial,
    halving_savings,
    rank,
    score,
    steps_to,
)


def trial(number, correct, *, loss=0.1, diverged=False):
    curve = correct if isinstance(correct, list) else [correct]
    losses = loss if isinstance(loss, list) else [loss] * len(curve)
    return {"number": number, "validation_correct": curve, "validation_loss": losses, "diverged": diverged}


def test_trials_are_ranked_by_images_then_loss_then_number():
    trials = [trial(0, 90), trial(1, 95, loss=0.3), trial(2, 95, loss=0.2), trial(3, 95, loss=0.2), trial(4, 99)]
    trials += [trial(5, 100, diverged=True), trial(6, 95, loss=None)]
    assert best_trials(trials, 99) == [4, 2, 3, 1, 6, 0, 5]
    assert best_trials(trials, 2) == [4, 2]
    assert list(map(score, trials)) == [90, 95, 95, 95, 99, 0, 95]


def test_a_trial_is_ranked_by_what_was_known_after_an_epoch():
    lost = trial(3, [50, 40], loss=[0.5, None], diverged=True)
    assert rank(lost, 1) == (50, -0.5, -3)
    assert rank(lost, 2) == rank(lost, 5) == rank(lost) == (0, -math.inf, -3)
    assert rank(trial(1, [50, 60, 70], loss=[0.3, 0.2, 0.1]), 2) == (60, -0.2, -1)


def confirmation(number, correct, *, loss=0.1, diverged=(False, False)):
    return {"number": number, "validation_correct": correct, "validation_loss": [loss, 0.1], "diverged": diverged}


@pytest.mark.parametrize(
    ("found", "number"),
    [
        ([confirmation(5, [90, 90]), confirmation(2, [99, 80])], 5),
        ([confirmation(5, [90, 91]), confirmation(2, [91, 90], loss=0.2)], 5),
        ([confirmation(5, [90, 91]), confirmation(2, [91, 90])], 2),
        ([confirmation(5, [90, 91]), confirmation(2, [99, 99], diverged=(False, True))], 5),
        ([confirmation(5, [90, 91], loss=None), confirmation(7, [91, 90], loss=9.0)], 7),
    ],
)
def test_the_choice_is_the_highest_sum_then_the_lower_loss_then_number(found, number):
    assert chosen_trial(found) == chosen_trial(found[::-1]) == number


@pytest.mark.parametrize(
    ("target", "expected"),
    [(50, 2), (80, 4), (90, 5), (95, 5 + 2), (96, 5 + 5), (99, None)],
)
def test_steps_are_counted_to_the_first_sufficient_test(target, expected):
    # Five steps per epoch, tested after 2, 4 and at the end.
    assert steps_to(target, [[50, 80], [95, 70]], [90, 96], 2, 5) == expected


@pytest.mark.parametrize("images", [20, 500, 7_777, 10_000])
@pytest.mark.parametrize("target", TARGETS)
def test_an_exact_hit_of_a_target_counts(target, images):
    needed = math.ceil(Fraction(target * images, 100))
    assert steps_to(needed, [[0, needed]], [images], 10, 30) == 20
    assert steps_to(needed, [[0, needed - 1]], [images], 10, 30) == 30


@pytest.mark.parametrize(
    ("correct", "diverged", "expected"),
    [([11, 13, 20, 21, 98], [False] * 5, 3), ([11, 13], [True, False], 1), ([], [], 0)],
)
def test_runs_at_chance_end_finite_and_below_twice_guessing(correct, diverged, expected):
    assert at_chance(correct, diverged, 100) == expected


def test_savings_of_early_stopping_match_an_example_by_hand():
    """Trial 2 is the best at the end and the fourth after epoch 1; trials 3 and 4 diverged in epochs 2 and 1."""
    curves = [[50, 60, 70], [60, 65, 71], [40, 70, 90], [55, 10], [10], [30, 31, 32]]
    trials = [trial(number, curve, diverged=number in (3, 4)) for number, curve in enumerate(curves)]
    # 15 epochs in all. After epoch 1 the best are trials 1, 3, 0, and 2, 4, 5 would have been stopped; after epoch 2
    # the best are 2, 1, 0, and of the others only 5 is still trained.
    assert halving_savings({"trials": trials, "chosen": 2}) == [
        Saving(2, 1, 4 / 15, False, 90 - 71),
        Saving(2, 2, 1 / 15, True, 0),
        Saving(4, 1, 6 / 15, False, 90 - 71),
        Saving(4, 2, 2 / 15, True, 0),
    ]


def test_nothing_is_saved_after_the_last_epoch():
    assert halving_savings({"trials": [trial(0, 5), trial(1, 6)], "chosen": 1}) == []
