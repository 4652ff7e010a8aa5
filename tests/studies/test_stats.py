import numpy as np
import pytest
from scipy import stats

from mnist_jax.studies.stats import Interval, mean_interval, median_interval, paired_difference


def test_interval_matches_student_t():
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


def test_intervals_have_nominal_coverage():
    rng = np.random.default_rng(0)
    covered = [(lambda i: i.low < 3 < i.high)(mean_interval(rng.normal(3, 2, 5))) for _ in range(2000)]
    assert abs(np.mean(covered) - 0.95) < 0.02


def test_runs_are_paired_by_seed():
    difference = paired_difference([1.0, 2.0, 3.0], [3.0, 1.0, 2.0])
    assert difference.mean == 0
    assert difference.high == pytest.approx(np.std([-2, 1, 1], ddof=1) / 3**0.5 * stats.t.ppf(0.975, 2))


def test_equal_counts_give_an_interval_of_positive_width():
    half = stats.t.ppf(0.975, 1) * (1 / 6 / 2) ** 0.5
    assert paired_difference([9_805, 9_806], [9_800, 9_801], grid=1) == pytest.approx((5, 5 - half, 5 + half))
    half = stats.t.ppf(0.975, 2) * (2**2 / 12 / 3) ** 0.5
    assert mean_interval([7, 7, 7], grid=2) == pytest.approx((7, 7 - half, 7 + half))


def test_interval_scales_with_units():
    assert Interval(1.0, -1.0, 3.0).times(100) == Interval(100.0, -100.0, 300.0)
    assert Interval(1.0, -1.0, 3.0).times(-1) == Interval(-1.0, -3.0, 1.0)


@pytest.mark.parametrize(
    ("count", "places"), [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15))]
)
def test_median_interval_matches_tables(count, places):
    values = list(np.random.default_rng(0).permutation(np.arange(1, count + 1)))
    assert median_interval(values) == places


def test_median_interval_may_be_unbounded():
    assert median_interval([np.inf, 1, 2, 3, np.inf, 4, 5, 6, 7, 8]) == (2, np.inf)


@pytest.mark.parametrize("count", [6, 10, 20])
def test_median_interval_has_nominal_coverage(count):
    rng = np.random.default_rng(0)
    intervals = [median_interval(rng.exponential(size=count)) for _ in range(400)]
    assert sum(low <= np.log(2) <= high for low, high in intervals) >= stats.binom.ppf(0.001, 400, 0.95)
