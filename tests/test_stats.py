import numpy as np
import pytest
from scipy import stats

from mnist_jax.stats import mean_interval, paired_difference


def test_interval_is_student_s():
    values = [1.0, 2.0, 4.0, 7.0]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((3.5, low, high))


def test_pairs_cancel_what_they_share():
    shared = np.array([0.0, 10.0, 20.0])
    difference = paired_difference(np.add(shared, [1.0, 1.1, 0.9]), shared)
    assert difference.excludes_zero
    assert difference == pytest.approx(mean_interval([1.0, 1.1, 0.9]))
    assert not paired_difference([1.0, 2.0], [2.0, 1.0]).excludes_zero
    assert paired_difference([0.0, 0.1], [9.0, 9.0]).excludes_zero


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = [(lambda i: i.low < 3 < i.high)(mean_interval(rng.normal(3, 2, 5))) for _ in range(2000)]
    assert abs(np.mean(covered) - 0.95) < 0.02
