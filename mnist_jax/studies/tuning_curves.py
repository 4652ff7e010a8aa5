"""What an optimizer reaches with a given number of trials: tuning curves with simultaneous bands."""

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnist_jax.studies.inference import CONFIDENCE


class Curve(NamedTuple):
    """A tuning curve and its band for budgets of 1, 2, ... trials: fractions, float `[budgets]`."""

    low: np.ndarray
    point: np.ndarray
    high: np.ndarray


class TuningCurves(NamedTuple):
    """The best validation accuracy of k settings drawn independently from the space, one seed each.

    Attributes:
      median, expected: median and mean of the best of k; the bands are simultaneous over both and all budgets.
      open_above: largest budget for which the median has an upper bound. For larger ones the band is open above: too
        few trials do not show how good the best setting is.
    """

    median: Curve
    expected: Curve
    open_above: int


def tuning_curves(scores: Sequence[float], confidence: float = CONFIDENCE) -> TuningCurves:
    """Tuning curves with the bands of Lourie et al. 2023 (arXiv:2311.09480), by their package opda.

    Bands are exact for independent draws. For scrambled Sobol points, and where scores are equal, they are
    conservative (experiments/simulations.py).

    Args:
      scores: fractions that the drawn trials have right, in any order, without trial 0, which is not drawn.
      confidence: confidence of a band; for two optimizers together, each needs (1 + confidence) / 2 (Bonferroni).
    """
    from opda.nonparametric import EmpiricalDistribution

    with warnings.catch_warnings():
        # Scores are counts, and may be equal.
        warnings.filterwarnings("ignore", "Duplicates detected in ys", RuntimeWarning)
        lower, point, upper = EmpiricalDistribution.confidence_bands(
            np.asarray(scores, float),
            confidence,
            a=0.0,
            b=1.0,
            method="ld_equal_tailed",
            generator=_generator(len(scores), confidence),
            n_jobs=1,  # more would fork, which a process that has started JAX must not do
        )
    budgets = np.arange(1, len(scores) + 1)
    # The upper band of the distribution function gives the lower curve.
    median = Curve(*(each.quantile_tuning_curve(budgets, q=0.5) for each in (upper, point, lower)))
    expected = Curve(*(each.average_tuning_curve(budgets) for each in (upper, point, lower)))
    return TuningCurves(median, expected, open_above=int((median.high < 1).sum()))


@functools.cache
def _generator(count: int, confidence: float) -> np.random.Generator:
    """A generator per kind of band, for which opda simulates once: results do not depend on the order of calls."""
    return np.random.default_rng(0)


def budgets_led(first: Curve, second: Curve) -> list[int]:
    """The budgets at which the first curve's band lies wholly above the second's."""
    count = min(len(first.low), len(second.low))
    return [int(place) + 1 for place in np.flatnonzero(first.low[:count] > second.high[:count])]
