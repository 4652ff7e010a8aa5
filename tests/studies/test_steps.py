import math

import numpy as np
import pytest

from mnist_jax.studies.inference import steps_difference, steps_interval
from mnist_jax.studies.stats import mean_interval


def test_median_of_steps_and_its_interval():
    steps = [250 * place for place in range(1, 21)]
    assert steps_interval(steps) == (20, 20, 2_625, (1_500, 3_750))
    assert steps_interval(steps[:10]) == (10, 10, 1_375, (500, 2_250))


def test_never_is_infinite():
    steps = [*range(250, 250 * 13, 250), *[None] * 8]
    found = steps_interval(np.random.default_rng(0).permutation(steps).tolist())
    assert found == (12, 20, 2_625, (1_500, math.inf))
    assert steps_interval([None] * 6) == (0, 6, math.inf, (math.inf, math.inf))
    assert steps_interval([250, None]) == (1, 2, math.inf, None)


def test_difference_is_of_means_restricted_to_the_run():
    first, second = [500, 750, 500, None], [1_750, 1_500, None, 1_750]
    found = steps_difference(first, second, limit=2_000, every=250)
    gaps = [1_250, 750, 1_500, -250]
    assert found.mean == pytest.approx(np.mean(gaps))
    assert found.interval == pytest.approx(mean_interval(gaps))
    assert (found.sooner, found.later, found.ties) == (3, 1, 0)
    assert not found.differs
    mirrored = steps_difference(second, first, limit=2_000, every=250)
    assert mirrored.interval == pytest.approx(found.interval.times(-1))
    assert (mirrored.sooner, mirrored.later) == (1, 3)


def test_two_runs_that_never_reach_the_target_are_a_tie():
    found = steps_difference([None, 500, 500, 750], [None, 500, 750, 1_000], limit=2_000, every=250)
    assert (found.sooner, found.later, found.ties) == (2, 0, 2)
    assert found.mean == 125


def test_a_difference_must_exclude_zero_and_be_as_long_as_between_two_tests():
    first = [500] * 10
    shown = steps_difference(first, [1_000, *[750] * 9], limit=2_000, every=250)
    assert shown.differs
    assert steps_difference(first, [*[500] * 5, *[750] * 5], limit=2_000, every=250).interval.low > 0
    assert not steps_difference(first, [*[500] * 5, *[750] * 5], limit=2_000, every=250).differs
    assert not steps_difference(first, [250, 2_000, *[500] * 8], limit=2_000, every=250).differs


def test_equal_differences_have_no_interval():
    found = steps_difference([500, 750, 500], [1_000, 1_250, 1_000], limit=2_000, every=250)
    assert (found.mean, found.interval, found.differs) == (500, None, False)


@pytest.mark.parametrize("few", [[500, None, None], [None, None, None]])
def test_means_are_not_compared_if_most_runs_never_reach_the_target(few):
    reached = [500, 750, 500]
    assert steps_difference(few, reached, limit=2_000, every=250) is None
    assert steps_difference(reached, few, limit=2_000, every=250) is None
    assert steps_difference([500, None], [500, None], limit=2_000, every=250) is not None
