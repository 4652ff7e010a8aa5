"""Could a published curve be one more of ours? The two rules of reproduce_notebooks.py."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, logit

from mnist_jax.errors import UserError
from mnist_jax.studies import published

LEVEL = 0.05
FIRST_SEEDS = 10  # seeds 0 to 9, for the rule point by point
SEEDS = 30  # planned for the test curve by curve
FEWEST_SEEDS_OF_CURVES = 10
CONTRASTS = ("mean log odds of accuracy", "mean log loss", "slope of log loss")
POWER = 0.9  # share of studies in which an error that "would be noticed" is noticed
_HALF_STEP = 5e-5  # half the step of a printed accuracy; keeps the odds of 0 and 1 finite


class Curves(NamedTuple):
    """Our runs of a lesson: accuracies as fractions and losses in nats, float `[seeds, epochs]`."""

    accuracy: np.ndarray
    loss: np.ndarray


def compared(results: Mapping[str, Any]) -> dict[str, Any]:
    """Add to results.json's content the comparison of its runs with what the notebooks printed.

    Raises:
      UserError: some runs diverged.
    """
    lessons = results["lessons"]
    if lost := [lesson_id for lesson_id, entry in lessons.items() if any(entry["diverged"])]:
        raise UserError(f"Runs diverged ({', '.join(lost)}), which the notebooks' did not; nothing is compared.")
    curves = {
        lesson_id: Curves(np.array(entry["test_correct"]) / results["data"]["test"], np.array(entry["test_loss"]))
        for lesson_id, entry in lessons.items()
    }
    return {**results, "by_point": by_point(curves), "by_curve": by_curve(curves)}


def by_point(curves: Mapping[str, Curves]) -> dict[str, Any]:
    """The rule point by point on the first ten seeds, for results.json.

    Args:
      curves: our runs of each lesson, at least 3.

    Returns:
      `points`: every published number against ours, accuracies as fractions, losses in nats; `noticed` is the error
      that the rule finds with probability `POWER`. `pass_too`: pairs of a published curve and another lesson whose
      runs the rule cannot distinguish from it.
    """
    first = {lesson_id: Curves(*(values[:FIRST_SEEDS] for values in ours)) for lesson_id, ours in curves.items()}
    points = [point for lesson_id, ours in first.items() for point in _compare_points(lesson_id, ours)]
    limit = LEVEL / len(points)
    for point in points:
        point["outside"] = point["p"] < limit
        point["noticed"] = noticed_z(len(first[point["lesson"]].loss), limit) * point.pop("spread")
    pass_too = [
        [lesson_id, other]
        for lesson_id in first
        for other, ours in first.items()
        if other != lesson_id and all(point["p"] >= limit for point in _compare_points(lesson_id, ours))
    ]
    seeds = min(len(ours.loss) for ours in first.values())
    return {"seeds": seeds, "level": LEVEL, "power": POWER, "points": points, "pass_too": pass_too}


def noticed_in_all(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The errors that the rule point by point finds at its most sensitive epoch, in the form of `by_curve`'s `noticed`.

    Args:
      points: the points of a lesson.
    """
    accuracy, loss = ([point for point in points if point["what"] == what] for what in ("accuracy", "loss"))
    log_odds = [
        logit(point["mean"]) - logit(point["mean"] - point["noticed"])
        for point in accuracy
        if point["noticed"] < point["mean"]
    ]
    factors = [1 + point["noticed"] / point["mean"] for point in loss]
    return _noticed(min(log_odds), min(factors), accuracy[-1]["mean"])


def _noticed(log_odds: float, loss_factor: float, last_accuracy: float) -> dict[str, float]:
    """An error in all log odds, what it amounts to in the last accuracy, and a factor on all losses."""
    return {
        "log_odds": float(log_odds),
        "last_accuracy": float(last_accuracy - expit(logit(last_accuracy) - log_odds)),
        "loss_factor": float(loss_factor),
    }


def _compare_points(lesson_id: str, ours: Curves) -> list[dict[str, Any]]:
    """Compare a lesson's published curve, point by point, with runs of this or another lesson."""
    printed = (
        ("accuracy", published.accuracies(lesson_id), published.ACCURACY_STEP),
        ("loss", published.losses(lesson_id), published.LOSS_STEP),
    )
    points = []
    for (what, curve, step), runs in zip(printed, ours, strict=True):
        for epoch, (value, draws) in enumerate(zip(curve, runs.T, strict=True), start=1):
            spread = draw_spread(draws, step)
            z = float((value - draws.mean()) / spread)
            points.append(
                {
                    "lesson": lesson_id,
                    "what": what,
                    "epoch": epoch,
                    "published": value,
                    "mean": float(draws.mean()),
                    "standard_deviation": float(draws.std(ddof=1)),
                    "lowest": float(draws.min()),
                    "highest": float(draws.max()),
                    "spread": spread,
                    "z": z,
                    "p": float(2 * stats.t.sf(abs(z), len(draws) - 1)),
                }
            )
    return points


def by_curve(curves: Mapping[str, Curves]) -> dict[str, Any] | None:
    """Compare each published curve as a whole with our runs of each lesson, for results.json.

    Args:
      curves: our runs of each lesson.

    Returns:
      `p[published curve][our runs]`; `leave_one_out`, p of each of our curves against the others of its lesson;
      `ours_rejected[lesson][other]`, the share of a lesson's curves that are rejected against the runs of another;
      `noticed`, the errors that the test finds with probability `POWER`: in all log odds (and what that amounts to in
      the last accuracy), or a factor on all losses. None with fewer seeds than `FEWEST_SEEDS_OF_CURVES`.
    """
    seeds = min(len(ours.loss) for ours in curves.values())
    if seeds < FEWEST_SEEDS_OF_CURVES:
        return None
    limit = LEVEL / len(curves)
    ours = {lesson_id: contrasts(*published.as_printed(*runs)) for lesson_id, runs in curves.items()}
    theirs = {
        lesson_id: contrasts(np.array(published.accuracies(lesson_id)), np.array(published.losses(lesson_id)))
        for lesson_id in curves
    }
    noticed = {}
    for lesson_id, runs in ours.items():
        log_odds, log_loss, _ = noticed_shifts(runs, limit)
        noticed[lesson_id] = _noticed(log_odds, math.exp(log_loss), curves[lesson_id].accuracy[:, -1].mean())
    return {
        "seeds": seeds,
        "level": LEVEL,
        "limit": limit,
        "power": POWER,
        "contrasts": CONTRASTS,
        "p": {row: {column: float(one_more_p(theirs[row], ours[column])) for column in ours} for row in ours},
        "leave_one_out": {lesson_id: leave_one_out(runs) for lesson_id, runs in ours.items()},
        "ours_rejected": {
            row: {
                column: float(np.mean(one_more_p(ours[row], ours[column]) < limit)) for column in ours if column != row
            }
            for row in ours
        },
        "noticed": noticed,
    }


def draw_spread(ours: np.ndarray, step: float) -> float:
    """Standard deviation of the difference between one more draw, rounded to `step`, and the mean of `ours`."""
    return math.sqrt(np.var(ours, ddof=1) * (1 + 1 / len(ours)) + step**2 / 12)


@functools.cache
def noticed_z(n: int, level: float) -> float:
    """By how many `draw_spread`s a draw must be off for its two-sided p to be below `level` with probability `POWER`.

    Args:
      n: number of our draws, at least 3.
      level: level of the test.
    """
    limit = stats.t.isf(level / 2, n - 1)
    return float(brentq(lambda z: stats.nct.sf(limit, n - 1, z) - POWER, limit / 2, 6 * limit))


def contrasts(accuracy: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """The three `CONTRASTS` of curves, float `[..., 3]`.

    Args:
      accuracy: fractions, `[..., epochs]`.
      loss: nats, positive, of the same shape.
    """
    log_odds = np.log((accuracy + _HALF_STEP) / (1 - accuracy + _HALF_STEP))
    log_loss = np.log(loss)
    time = np.linspace(-1, 1, log_loss.shape[-1])
    return np.stack([log_odds.mean(-1), log_loss.mean(-1), log_loss @ time / (time @ time)], axis=-1)


def one_more_p(values: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """p-value of Hotelling's T2 test of whether a draw comes from the normal distribution of `ours`.

    Args:
      values: one draw, float `[k]`, or several, `[m, k]`.
      ours: float `[n, k]`, n > k.

    Returns:
      Float `[]` or `[m]`.
    """
    n, k = ours.shape
    distance = values - ours.mean(0)
    t2 = n / (n + 1) * (distance * np.linalg.solve(np.cov(ours.T), distance.T).T).sum(-1)
    return stats.f.sf((n - k) / (k * (n - 1)) * t2, k, n - k)


def leave_one_out(ours: np.ndarray) -> list[float]:
    """`one_more_p` of each row against the others; uniform between 0 and 1 if the test is sound."""
    return [float(one_more_p(row, np.delete(ours, number, axis=0))) for number, row in enumerate(ours)]


def noticed_shifts(ours: np.ndarray, level: float) -> np.ndarray:
    """How far off each contrast alone must be for `one_more_p` to be below `level` with probability `POWER`.

    Args:
      ours: float `[n, k]`, n >= k + 3; their covariance is taken for the true one.
      level: level of the test.

    Returns:
      Float `[k]`, positive.
    """
    n, k = ours.shape
    limit = stats.f.isf(level, k, n - k)
    noncentrality = brentq(lambda x: stats.ncf.sf(limit, k, n - k, x) - POWER, 1, 500)
    return np.sqrt(noncentrality * (n + 1) / n / np.diag(np.linalg.inv(np.cov(ours.T))))
