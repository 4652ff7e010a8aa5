"""What final runs say about optimizers: intervals over seeds and test images, the luck of a search, equivalence.

Accuracies, differences, errors and margins are fractions of images throughout; variances are in squared fractions.
"""

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from mnist_jax.studies.stats import Interval, mean_interval, median_interval, t_quantile

CONFIDENCE = 0.95  # of all intervals of a family together
POWER = 0.9  # share of studies in which a difference that "would be noticed" is noticed
# Name of a data set -> difference in accuracy below which two count as the same: about 5 % of the error rates of these
# nets (2 % and 10 %), and no less than one setting's spread over seeds. Fixed before the recorded runs.
MARGINS: Mapping[str, float] = {"MNIST": 0.0010, "Fashion-MNIST": 0.0050}

Relation: TypeAlias = Literal[
    "better",
    "worse",
    "better, by less than the margin",
    "worse, by less than the margin",
    "the same within the margin",
    "not shown to differ",
]


# --- seeds and images ---


class Estimate(NamedTuple):
    """The mean of a contrast, and how well it is known.

    Attributes:
      mean: mean over the seeds and images at hand.
      standard_error: standard error of the mean over new seeds and new images from the same source.
      degrees: degrees of freedom of its t interval.
      seeds_part, images_part: the parts of `standard_error`; their squares add up to its square.
    """

    mean: float
    standard_error: float
    degrees: int
    seeds_part: float
    images_part: float

    @property
    def on_these_images(self) -> "Estimate":
        """The estimate over seeds alone, for exactly these test images."""
        return self._replace(standard_error=self.seeds_part, images_part=0.0)


class Components(NamedTuple):
    """Mean squares and products of several optimizers' answers, from which any contrast can be estimated.

    Attributes:
      means: accuracies, float `[optimizers]`.
      seeds, images, error: mean products between seeds, between images, and of the residuals, float
        `[optimizers, optimizers]`.
      shape: numbers of seeds and of images.
    """

    means: np.ndarray
    seeds: np.ndarray
    images: np.ndarray
    error: np.ndarray
    shape: tuple[int, int]

    def estimate(self, contrast: Sequence[float]) -> Estimate:
        """Estimate the sum of the optimizers' accuracies times these factors: +1 and -1 for a pair."""
        factors, size = np.asarray(contrast, float), math.prod(self.shape)
        of_seeds, of_images = (  # the first may be negative by rounding only
            max(float(factors @ products @ factors) / size, 0.0) for products in (self.seeds, self.images - self.error)
        )
        error = math.sqrt(of_seeds + of_images)
        mean, degrees = float(factors @ self.means), self.shape[0] - 1
        return Estimate(mean, error, degrees, math.sqrt(of_seeds), math.sqrt(of_images))

    def covariance(self) -> np.ndarray:
        """Covariance of the means over new seeds and images, float `[optimizers, optimizers]`.

        The images' part is the nearest matrix in which no contrast has a negative variance.
        """
        values, vectors = np.linalg.eigh(self.images - self.error)
        of_images = (vectors * np.maximum(values, 0)) @ vectors.T
        return (self.seeds + of_images) / math.prod(self.shape)


def components(right: np.ndarray) -> Components:
    """Two-way analysis of variance with random effects of seeds and images.

    Args:
      right: bool or float `[optimizers, seeds, images]`, whether each run has each image right; at least 2 seeds, the
        same for all optimizers, and 2 images.
    """
    answers = np.asarray(right, float)
    optimizers, seeds, images = answers.shape
    means = answers.mean((1, 2))
    answers = answers - means[:, None, None]
    between_seeds = images * _products(answers.mean(2))
    between_images = seeds * _products(answers.mean(1))
    rest = _products(answers.reshape(optimizers, -1)) - between_seeds - between_images
    return Components(
        means=means,
        seeds=between_seeds / (seeds - 1),
        images=between_images / (images - 1),
        error=rest / ((seeds - 1) * (images - 1)),
        shape=(seeds, images),
    )


def _products(rows: np.ndarray) -> np.ndarray:
    """Sums of products of any two rows; not with BLAS, whose threads take longer to synchronise than one to add."""
    return np.einsum("ax,bx->ab", rows, rows)


def two_way(contrast: np.ndarray) -> Estimate:
    """Mean of a contrast and its standard error over new seeds and new images.

    The variance is (MSa + max(MSb - MSe, 0)) / (seeds * images), with the mean squares MSa between seeds, MSb between
    images and MSe of the residuals. It is that of multi-reader multi-case studies, with seeds as readers and images as
    cases (Obuchowski and Rockette 1995; Hillis 2007). There are seeds - 1 degrees of freedom: Satterthwaite's formula
    gives many just when MSa happens to be small, and simulated studies then made more false claims than stated.

    Args:
      contrast: `[seeds, images]`, for instance the difference of two optimizers' right answers, paired by seed and
        image.
    """
    return components(np.asarray(contrast)[None]).estimate([1.0])


def pairs(right: Mapping[str, np.ndarray]) -> dict[tuple[str, str], Estimate]:
    """(a, b) -> `two_way` of a - b for all pairs of optimizers; `right` has an array `[seeds, images]` for each."""
    found = components(np.stack(list(right.values())))
    unit = np.eye(len(right))
    return {
        (a, b): found.estimate(unit[place] - unit[other])
        for (place, a), (other, b) in combinations(enumerate(right), 2)
    }


def interval(
    estimate: Estimate, comparisons: int = 1, extra_variance: float = 0.0, confidence: float = CONFIDENCE
) -> Interval:
    """Student's t interval, two-sided, and simultaneous in a family of `comparisons` by Bonferroni's inequality.

    Args:
      estimate: estimate of a contrast.
      comparisons: number of simultaneous intervals.
      extra_variance: added to the estimate's variance, such as `SearchLuck.variance` of both optimizers.
      confidence: confidence of the family.
    """
    quantile = t_quantile(1 - (1 - confidence) / (2 * comparisons), estimate.degrees)
    half = quantile * math.sqrt(estimate.standard_error**2 + extra_variance)
    return Interval(estimate.mean, estimate.mean - half, estimate.mean + half)


def noticeable_difference(standard_error: float, seeds: int, comparisons: int = 1) -> float:
    """The true difference for which `interval` excludes zero, on the right side, in `POWER` of studies."""
    return _errors_noticed(seeds, comparisons) * standard_error


@functools.cache
def _errors_noticed(seeds: int, comparisons: int) -> float:
    """`noticeable_difference` in standard errors, from the noncentral t distribution."""
    from scipy import stats
    from scipy.optimize import brentq

    degrees = seeds - 1
    limit = t_quantile(1 - (1 - CONFIDENCE) / (2 * comparisons), degrees)
    missed = (1 - POWER) / 2  # each by a large spread and by a low mean; together below 1 - POWER
    enough = limit * math.sqrt(stats.chi2.isf(missed, degrees) / degrees) + stats.norm.isf(missed)
    return float(brentq(lambda shift: stats.nct.sf(limit, degrees, shift) - POWER, 0.0, enough))


# --- the luck of a search ---


class SearchLuck(NamedTuple):
    """Mean and variance of the test accuracy that a search finds, over searches resampled from the trials of one."""

    expected: float
    variance: float


def search_luck(scores: Sequence[Any], tests: Sequence[float], course: tuple[Any, float] | None = None) -> SearchLuck:
    """What another search with as many trials would find, computed exactly over resamplings of the drawn trials.

    Of n trials drawn with replacement, the best is the one at rank r with probability (1 - (r-1)/n)^n - (1 - r/n)^n;
    if none is drawn that beats trial 0, which every search includes, it is trial 0. Dodge et al. 2019
    (arXiv:1909.03004) weight validation accuracies this way; here it is the test accuracy of each trial's own run,
    whose noise thus adds to the variance, which is conservative.

    Args:
      scores: scores of the drawn trials, of any comparable type; higher is better, and of equal ones the first.
      tests: test accuracy of each.
      course: score and test accuracy of trial 0, which beats its equals.
    """
    count = len(scores)
    ranked = sorted(range(count), key=scores.__getitem__, reverse=True)
    ahead = count if course is None else sum(score > course[0] for score in scores)
    beyond = (1 - np.arange(ahead + 1) / count) ** count  # no draw is among the first 0, 1, ... trials
    weights, found = beyond[:-1] - beyond[1:], [tests[place] for place in ranked[:ahead]]
    if course is not None:
        weights, found = np.append(weights, beyond[-1]), [*found, course[1]]
    expected = float(np.dot(weights, found))
    return SearchLuck(expected, float(np.dot(weights, np.subtract(found, expected) ** 2)))


# --- claims ---


def relation(found: Interval, margin: float | None) -> Relation:
    """What the interval of first - second says about the first.

    Lying within the margin amounts to two one-sided tests of equivalence (Schuirmann 1987), each at 2.5 % or less.

    Args:
      found: interval at its family's level.
      margin: margin of equivalence, in the interval's unit; if None, no two are ever called the same.
    """
    within = margin is not None and -margin < found.low and found.high < margin
    if not found.excludes_zero:
        return "the same within the margin" if within else "not shown to differ"
    if found.low > 0:
        return "better, by less than the margin" if within else "better"
    return "worse, by less than the margin" if within else "worse"


def best_among(found: Mapping[tuple[str, str], Interval]) -> list[str]:
    """The optimizers, by name, that no other is shown to beat; the best is among them if all intervals hold.

    Args:
      found: (a, b) -> simultaneous interval of a - b, for all pairs.
    """
    shown_worse = {b if each.low > 0 else a for (a, b), each in found.items() if each.excludes_zero}
    return sorted({name for pair in found for name in pair} - shown_worse)


def explained_share(
    chosen: np.ndarray, course: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Interval of 1 - mean(chosen) / mean(course): the share of the course's lead that tuning explains.

    Fieller's interval for a ratio of means (Fieller 1954), with the covariance over seeds and images.

    Args:
      chosen: lead at the chosen settings, `[seeds, images]`.
      course: lead at the course's settings, for the same seeds and images.
      confidence: confidence of the interval.

    Returns:
      Its ends, or None if the course's lead is not shown to differ from zero, so that the ratio could be anything.
    """
    found = components(np.stack([chosen, course]))
    top, bottom = map(float, found.means)
    square = t_quantile((1 + confidence) / 2, found.shape[0] - 1) ** 2
    (of_top, both), (_, of_bottom) = (square * found.covariance()).tolist()
    a, b = bottom**2 - of_bottom, top * bottom - both
    if a <= 0:
        return None
    root = math.sqrt(max(b**2 - a * (top**2 - of_top), 0.0))
    return 1 - (b + root) / a, 1 - (b - root) / a


# --- steps to a target ---


class StepsTo(NamedTuple):
    """When runs of one optimizer first reached a target, as far as tests show.

    Attributes:
      reached, runs: numbers of runs that reached it, and of all runs.
      median: median in steps; infinite if at least half of the runs never reached it.
      interval: exact interval of the median, whose ends may be infinite; None for fewer than 6 runs.
    """

    reached: int
    runs: int
    median: float
    interval: tuple[float, float] | None


def steps_interval(steps: Sequence[int | None], confidence: float = CONFIDENCE) -> StepsTo:
    """Median over seeds of the steps to a target (None for never), and its interval between two order statistics."""
    values = [math.inf if step is None else step for step in steps]
    reached = sum(step is not None for step in steps)
    return StepsTo(reached, len(values), statistics.median(values), median_interval(values, confidence))


class StepsDifference(NamedTuple):
    """How much sooner the first of two optimizers reaches a target, on these test images.

    Attributes:
      mean: steps of the second minus steps of the first; a run that never reaches it counts as its full length.
      interval: interval of the mean over seeds; None if all seeds have the same difference.
      sooner, later, ties: numbers of seeds for which the first reaches it at an earlier, a later, or the same test.
      differs: whether the interval excludes zero and the mean is at least the steps between two tests.
    """

    mean: float
    interval: Interval | None
    sooner: int
    later: int
    ties: int
    differs: bool


def steps_difference(
    first: Sequence[int | None], second: Sequence[int | None], limit: int, every: int, confidence: float = CONFIDENCE
) -> StepsDifference | None:
    """Compare two optimizers' steps to a target, paired by seed, as restricted means.

    Args:
      first: steps of each seed's run of one optimizer, None for never.
      second: the same for the other.
      limit: steps of a whole run, to which both are restricted.
      every: steps between two tests; no smaller difference is claimed.
      confidence: confidence of Student's t interval over seeds.

    Returns:
      None if fewer than half of either optimizer's runs reach the target: then only their numbers can be compared.
    """
    if any(2 * sum(step is not None for step in steps) < len(steps) for steps in (first, second)):
        return None
    restricted = [[limit if step is None else min(step, limit) for step in steps] for steps in (first, second)]
    gaps = [later - sooner for sooner, later in zip(*restricted, strict=True)]
    found = mean_interval(gaps, confidence) if len(set(gaps)) > 1 else None
    mean = statistics.fmean(gaps)
    sooner, later = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    differs = found is not None and found.excludes_zero and abs(mean) >= every
    return StepsDifference(mean, found, sooner, later, len(gaps) - sooner - later, differs)
