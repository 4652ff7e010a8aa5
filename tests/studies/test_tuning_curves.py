import multiprocessing

import numpy as np
import pytest

from mnist_jax.studies import tuning_curves as module
from mnist_jax.studies.tuning_curves import Curve, budgets_led, tuning_curves


def scores(count=32, seed=0):
    return (np.random.default_rng(seed).integers(4_500, 4_900, count) / 5_000).tolist()


def test_curves_are_those_of_the_sample():
    ys = scores(16)
    found = tuning_curves(ys)
    assert found.median.point[0] == sorted(ys)[7]
    assert found.expected.point[0] == pytest.approx(np.mean(ys))
    best = np.random.default_rng(0).choice(ys, (40_000, 5)).max(1)
    assert found.expected.point[4] == pytest.approx(best.mean(), abs=4 * best.std() / 200)
    for curve in (found.median, found.expected):
        assert all(len(part) == 16 for part in curve)
        assert (curve.low <= curve.point).all()
        assert (curve.point <= curve.high).all()
        assert all((np.diff(part) >= 0).all() for part in curve)


@pytest.mark.parametrize(
    ("count", "confidence", "last"),
    [(16, 0.95, 1), (16, 0.975, 1), (32, 0.95, 3), (32, 0.975, 3)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in ((64, 0.95, 6), (64, 0.975, 6), (128, 0.95, 12))]
    + [pytest.param(128, 0.975, 11, marks=pytest.mark.slow)],
)
def test_the_upper_band_of_the_median_ends_where_so_few_trials_say_nothing(count, confidence, last):
    found = tuning_curves(scores(count), confidence)
    assert found.open_above == last
    assert (found.median.high[:last] < 1).all()
    assert (found.median.high[last:] == 1).all()
    assert (found.median.low > 0.85).all()


def test_bands_do_not_depend_on_what_was_computed_before():
    module._generator.cache_clear()
    first = tuning_curves(scores())
    module._generator.cache_clear()
    tuning_curves(scores(16))
    tuning_curves(scores(seed=1), 0.975)
    for curve, other in zip(tuning_curves(scores())[:2], first[:2], strict=True):
        for part, same in zip(curve, other, strict=True):
            np.testing.assert_array_equal(part, same)


def test_a_higher_confidence_widens_the_band():
    narrow, wide = (tuning_curves(scores(), confidence).expected for confidence in (0.8, 0.975))
    assert (wide.low <= narrow.low).all()
    assert (wide.high >= narrow.high).all()
    assert (wide.high - wide.low > narrow.high - narrow.low).all()


def test_no_process_is_forked(monkeypatch):
    monkeypatch.setattr(multiprocessing, "Pool", lambda *_, **__: pytest.fail("forked"))
    monkeypatch.setattr(multiprocessing, "Process", lambda *_, **__: pytest.fail("forked"))
    tuning_curves(scores(12))


@pytest.mark.parametrize("ys", [[0.98] * 8, [0.0] * 7 + [1.0], [0.9], [1.0] * 3])
def test_equal_scores_have_curves_without_a_warning(ys, recwarn):
    found = tuning_curves(ys)
    assert not recwarn.list
    assert found.median.point[-1] == max(ys)
    assert (found.median.low <= max(ys)).all()


def test_a_curve_leads_where_its_band_lies_above():
    first = Curve(np.array([0.5, 0.7, 0.9, 0.95]), np.ones(4), np.ones(4))
    second = Curve(np.zeros(3), np.zeros(3), np.array([0.6, 0.6, 0.9]))
    assert budgets_led(first, second) == [2]
    assert budgets_led(second, first) == []
