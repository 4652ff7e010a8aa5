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
