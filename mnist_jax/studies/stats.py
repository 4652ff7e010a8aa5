"""Statistics of results over seeds."""

import functools
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.lessons import LESSONS


class Interval(NamedTuple):
    """A mean and its confidence interval, in the unit of the averaged values."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the mean differs from zero at the interval's level."""
        return self.low > 0 or self.high < 0

    def times(self, factor: float) -> "Interval":
        """Scale the interval, say from images to points; a negative factor swaps its ends."""
        low, high = sorted((factor * self.low, factor * self.high))
        return Interval(factor * self.mean, low, high)


def fractions(counts: Sequence[Sequence[int]], size: int) -> list[list[float]]:
    """Counts out of `size`, one list per run, as fractions."""
    return [[count / size for count in run] for run in counts]


def mean_interval(values: Sequence[float], confidence: float = 0.95, *, grid: float = 0.0) -> Interval:
    """Student's t interval of the mean of at least two independent values.

    Args:
      values: in any unit.
      confidence: confidence of the interval.
      grid: step to which the values are rounded, 1 for counts. The variance of rounding, grid^2 / 12, is added to
        theirs: a few values may be equal by chance, which would give an interval of no width.
    """
    array = np.asarray(values, float)
    mean, variance = float(array.mean()), float(array.var(ddof=1)) + grid**2 / 12
    half = (variance / len(array)) ** 0.5 * t_quantile((1 + confidence) / 2, len(array) - 1)
    return Interval(mean, mean - half, mean + half)


@functools.cache
def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution."""
    from scipy import stats  # half a second, which a single run need not wait

    return float(stats.t.ppf(probability, degrees))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The narrowest exact confidence interval of the median between two order statistics of independent values.

    It covers with at least `confidence` for any distribution (the number of values below the median is binomial).
    Values may be infinite, and so may its ends.

    Returns:
      Its ends, or None for too few values: fewer than 6 for 95 %.
    """
    from scipy import stats

    ordered, count = sorted(values), len(values)
    places = [place for place in range(count // 2) if 2 * stats.binom.cdf(place, count, 0.5) <= 1 - confidence]
    return (ordered[places[-1]], ordered[count - 1 - places[-1]]) if places else None


def paired_difference(
    after: Sequence[float], before: Sequence[float], confidence: float = 0.95, *, grid: float = 0.0
) -> Interval:
    """Interval of the mean of after - before, pair by pair: what the pairs share (seed, order) cancels.

    Both are rounded to the `grid` of `mean_interval`.
    """
    return mean_interval(np.subtract(after, before).tolist(), confidence, grid=2**0.5 * grid)


class Bin(NamedTuple):
    """Answers of about the same confidence: their number, mean confidence and accuracy."""

    size: int
    confidence: float
    accuracy: float


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> list[Bin]:
    """Compare the probabilities of answers with how often these are right.

    Args:
      confidence: probability of each answer, float `[n]` in [0, 1].
      correct: whether it was right, bool `[n]`.
      bins: number of bins of equal width; those without an answer are left out.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        Bin(int(here.sum()), float(confidence[here].mean()), float(correct[here].mean()))
        for here in (place == number for number in range(bins))
        if here.any()
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean over answers of |accuracy - confidence| of their bin (Guo et al. 2017, arXiv:1706.04599, eq. 5)."""
    total = sum(found.size for found in bins)
    return sum(found.size * abs(found.accuracy - found.confidence) for found in bins) / total


def ladder_gains(results: Mapping[str, Any]) -> dict[tuple[str, str], list[list[float]]]:
    """(lesson before, lesson) -> the gain in test accuracy for each epoch and seed, in percentage points.

    Epochs that a diverged run did not reach are left out.
    """
    entries, size = results["lessons"], results["data"]["test"]
    gains = {}
    for before, after in pairwise(LESSONS):
        if before in entries and after in entries:
            pairs = zip(entries[before]["test_correct"], entries[after]["test_correct"], strict=True)
            by_seed = [[100 * (b - a) / size for a, b in zip(*pair, strict=False)] for pair in pairs]
            gains[before, after] = [list(epoch) for epoch in zip(*by_seed, strict=False)]
    return gains


def gain_interval(results: Mapping[str, Any], gains: Sequence[float]) -> Interval:
    """Interval of the mean of one epoch's `ladder_gains`, in percentage points."""
    return mean_interval(gains, grid=2**0.5 * 100 / results["data"]["test"])
