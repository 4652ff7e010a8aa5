"""Statistics of results over seeds."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.lessons import LESSONS


class Interval(NamedTuple):
    """A mean and its confidence interval, in the unit of what was averaged."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the mean differs from zero at the interval's level."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of at least two independent values."""
    from scipy import stats  # half a second, which a single run need not wait

    array = np.asarray(values, float)
    half = stats.sem(array) * stats.t.ppf((1 + confidence) / 2, len(array) - 1)
    return Interval(float(array.mean()), float(array.mean() - half), float(array.mean() + half))


def paired_difference(after: Sequence[float], before: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of the mean of after - before, pair by pair: what the pairs share (seed, order) cancels."""
    return mean_interval(np.subtract(after, before).tolist(), confidence)


class Bin(NamedTuple):
    """Answers of about the same confidence: how many, and the means of confidence and of being right."""

    size: int
    confidence: float
    accuracy: float


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> list[Bin]:
    """Whether answers are right as often as their probabilities say.

    Args:
      confidence: float `[n]` in [0, 1], the probability of each answer.
      correct: bool `[n]`, whether it was right.
      bins: of equal width; those without an answer are left out.
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
    """(lesson before, lesson) -> for each epoch, for each seed, the gain in test accuracy in percentage points.

    Epochs that a diverged run did not reach are left out.
    """
    entries = results["lessons"]
    gains = {}
    for before, after in pairwise(LESSONS):
        if before in entries and after in entries:
            pairs = zip(entries[before]["test_accuracy"], entries[after]["test_accuracy"], strict=True)
            by_seed = [[100 * (b - a) for a, b in zip(*pair, strict=False)] for pair in pairs]
            gains[before, after] = [list(epoch) for epoch in zip(*by_seed, strict=False)]
    return gains
