"""Differences and their intervals, rounded so that the numbers do not contradict the words about them."""

import math

from mnist_jax.studies.stats import Interval

_MOST_DECIMALS = 6


def decimals(gap: Interval, limit: float | None = None) -> int:
    """Number of decimals with which to show a mean and its interval, in points.

    Two, or as many more as keep each end on its side of 0 and of the margin `limit`, whether the ends are shown or the
    mean ± half of the interval.
    """
    bounds = (0.0, limit, -limit) if limit else (0.0,)

    def sides(low: float, high: float) -> list[int]:
        return [(end > bound) - (end < bound) for end in (low, high) for bound in bounds]

    true = sides(round(gap.low, _MOST_DECIMALS), round(gap.high, _MOST_DECIMALS))

    def keeps(places: int) -> bool:
        mean, low, high, half = (round(value, places) for value in (*gap, gap.high - gap.mean))
        shown = (low, high), (round(mean - half, places), round(mean + half, places))
        return all(sides(*ends) == true for ends in shown)

    return next(filter(keeps, range(2, _MOST_DECIMALS)), _MOST_DECIMALS)


def rounded(value: float, places: int, sign: str = "") -> str:
    """A number with this many decimals, never -0; `sign` "+" shows the sign of positive numbers, too."""
    return f"{round(value, places) + 0.0:{sign}.{places}f}"


def numbers(gap: Interval, limit: float | None = None, sign: str = "", *, unit: str = "") -> str:
    """`0.12 [0.02, 0.22]`, with the unit after the mean; `sign` as for `rounded`."""
    mean, low, high = (rounded(value, decimals(gap, limit), sign) for value in gap)
    return f"{mean}{unit} [{low}, {high}]"


def points(gap: Interval, limit: float | None = None, sign: str = "") -> str:
    """`0.12 points [0.02, 0.22]`; see `numbers`."""
    return numbers(gap, limit, sign, unit=" points")


def detectable(difference: float) -> str:
    """A difference that most studies would show, rounded upwards."""
    return f"{math.ceil(round(100 * difference, 6)) / 100:.2f}"


def share_words(share: tuple[float, float]) -> str:
    """`60 to 82 %`, rounded outwards."""
    low, high = share
    return f"{math.floor(round(100 * low, 6))} to {math.ceil(round(100 * high, 6))} %"
