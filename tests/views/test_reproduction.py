"""Verdicts on made-up runs: which points and curves are outside, and what was missed."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from mnist_jax import LESSONS, UserError
from mnist_jax.studies import published
from mnist_jax.studies.reproduction import LEVEL, compared, draw_spread
from mnist_jax.views.reproduction import curve_limits, curve_verdict, point_limits, point_verdict

IMAGES = 10_000


@pytest.fixture
def results():
    """Content of a results.json: ten runs per lesson around the published curves."""
    return fake_results(10)


def fake_results(seeds):
    rng = np.random.default_rng(0)
    lessons = {}
    for lesson_id in LESSONS:
        accuracy, loss = (np.array(curve(lesson_id)) for curve in (published.accuracies, published.losses))
        lessons[lesson_id] = {
            "diverged": [False] * seeds,
            "test_correct": np.round(IMAGES * (accuracy + rng.normal(0, 0.001, (seeds, 10)))).astype(int).tolist(),
            "test_loss": (loss * np.exp(rng.normal(0, 0.01, (seeds, 10)))).tolist(),
        }
    return {"data": {"test": IMAGES}, "config": {"seeds": list(range(seeds))}, "lessons": lessons}


def with_losses(results, lesson_id, losses):
    entry = {**results["lessons"][lesson_id], "test_loss": np.asarray(losses).tolist()}
    return {**results, "lessons": {**results["lessons"], lesson_id: entry}}


def test_close_runs_are_reproduced_and_a_shift_is_detected(results):
    found = compared(results)["by_point"]
    assert len(found["points"]) == 120
    assert not any(point["outside"] for point in found["points"])
    assert point_verdict(found).startswith("Reproduced: none of the 120")
    entry = results["lessons"]["he"]
    entry["test_correct"] = [[count + 200 for count in run] for run in entry["test_correct"]]
    found = compared(results)["by_point"]
    outside = [(point["lesson"], point["what"]) for point in found["points"] if point["outside"]]
    assert outside == [("he", "accuracy")] * 10
    words = point_verdict(found)
    assert "he accuracy epoch 1" in words
    assert "Reproduced: adam, batch_norm, dropout, mlp, relu" in words


@pytest.mark.parametrize(("part", "outside"), [(1.1, False), (0.9, True)])
def test_point_is_outside_if_p_is_below_the_corrected_level(results, part, outside):
    losses = np.array(results["lessons"]["he"]["test_loss"])
    draws = losses[:, 3]
    z = stats.t.isf(part * LEVEL / 120 / 2, len(draws) - 1)
    draws += published.losses("he")[3] - z * draw_spread(draws, published.LOSS_STEP) - draws.mean()
    found = compared(with_losses(results, "he", losses))["by_point"]
    named = [f"{p['lesson']} {p['what']} {p['epoch']}" for p in found["points"] if p["outside"]]
    assert named == ["he loss 4"] * outside
    assert point_verdict(found).startswith("1 of the 120" if outside else "Reproduced: none of the 120")


@pytest.mark.parametrize(("part", "rejected"), [(1.2, False), (0.8, True)])
def test_curve_is_rejected_if_p_is_below_the_corrected_level(part, rejected):
    results = fake_results(30)
    losses = np.array(results["lessons"]["he"]["test_loss"])

    def found(factor):
        return compared(with_losses(results, "he", factor * losses))["by_curve"]

    factor = brentq(lambda factor: found(factor)["p"]["he"]["he"] - part * LEVEL / 6, 1, 1.1, xtol=1e-6)
    assert found(factor)["p"]["he"]["he"] == pytest.approx(part * LEVEL / 6, rel=0.15)  # the grid has steps
    words = curve_verdict(found(factor), 30)
    assert ("curves are rejected: he (" in words) == rejected
    assert ("of the 6 published curves none is rejected" in words) != rejected


def test_undetected_differences_are_reported(results):
    found = compared(results)
    assert curve_limits(found["by_curve"]).endswith("all are rejected.")
    assert "no point is outside in 0 of 30 pairs." in point_limits(found["by_point"])
    assert "30 of 30 are rejected." in curve_verdict(found["by_curve"], 10)
    results["lessons"]["he"] = results["lessons"]["adam"]  # a lesson that is trained as another
    found = compared(results)
    assert "1 of 30 pairs: the curve of adam against our runs of he." in point_limits(found["by_point"])
    assert "all are rejected, except for he against adam (0 %), adam against he (0 %)." in curve_limits(
        found["by_curve"]
    )
    words = curve_verdict(found["by_curve"], 10)
    assert "are rejected: he (smallest p" in words
    assert "29 of 30 are rejected; not rejected: adam against he (p = " in words


def test_unrejected_pair_is_named(results):
    found = compared(results)["by_curve"]
    found["p"]["mlp"]["he"] = 1.1 * LEVEL / 6
    assert "29 of 30 are rejected; not rejected: mlp against he (p = 0.0092)." in curve_verdict(found, 10)


@pytest.mark.parametrize(
    ("seeds", "says"), [(9, "needs at least 10 seeds"), (12, "12 seeds (30 were"), (30, "30 seeds: ")]
)
def test_number_of_seeds_is_stated(seeds, says):
    words = curve_verdict(compared(fake_results(seeds))["by_curve"], seeds)
    assert says in words


def test_diverged_runs_are_not_compared(results):
    entry = results["lessons"]["he"]
    entry["diverged"][2], entry["test_loss"][2], entry["test_correct"][2] = True, [None], [980]
    with pytest.raises(UserError, match="diverged \\(he\\)"):
        compared(results)
