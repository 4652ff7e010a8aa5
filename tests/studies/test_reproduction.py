import numpy as np
import pytest
from scipy import stats

from mnist_jax import LESSONS
from mnist_jax.studies import published
from mnist_jax.studies.reproduction import (
    FIRST_SEEDS,
    LEVEL,
    POWER,
    Curves,
    by_curve,
    by_point,
    contrasts,
    draw_spread,
    leave_one_out,
    noticed_in_all,
    noticed_shifts,
    noticed_z,
    one_more_p,
)

COVARIANCE = np.array([[1.0, 0.5, 0.1], [0.5, 2.0, -0.6], [0.1, -0.6, 0.5]])


def draws(rng, *shape):
    """Rows of three correlated normal numbers."""
    return rng.multivariate_normal([1, -2, 3], COVARIANCE, shape)


def fake_runs(seeds=10):
    """Runs of every lesson around the published curves."""
    rng = np.random.default_rng(0)
    return {
        lesson_id: Curves(
            np.array(published.accuracies(lesson_id)) + rng.normal(0, 0.001, (seeds, 10)),
            np.array(published.losses(lesson_id)) * np.exp(rng.normal(0, 0.01, (seeds, 10))),
        )
        for lesson_id in LESSONS
    }


def test_z_matches_student_t_for_one_more_draw():
    rows = np.random.default_rng(1).normal(5, 2, (4000, 11))
    z = [(row[0] - row[1:].mean()) / draw_spread(row[1:], 0.0) for row in rows]
    assert stats.kstest(z, stats.t(9).cdf).pvalue > 0.01


def test_rounding_widens_the_spread():
    ours = np.array([1.0, 1.1, 0.9])
    assert draw_spread(ours, 0.0) == pytest.approx(0.1 * (4 / 3) ** 0.5)
    assert draw_spread(ours, 1.0) == pytest.approx((0.01 * 4 / 3 + 1 / 12) ** 0.5)


def test_the_rule_point_by_point_keeps_to_its_first_seeds():
    runs = fake_runs(FIRST_SEEDS + 2)
    expected = by_point(
        {lesson_id: Curves(*(values[:FIRST_SEEDS] for values in ours)) for lesson_id, ours in runs.items()}
    )
    assert by_point(runs) == expected
    assert expected["seeds"] == FIRST_SEEDS
    assert by_point(fake_runs(3))["seeds"] == 3


def test_lessons_that_the_rule_point_by_point_confuses_are_named():
    runs = fake_runs()
    assert by_point(runs)["pass_too"] == []
    rng = np.random.default_rng(2)
    runs["he"].loss[:] = published.losses("adam") * np.exp(rng.normal(0, 0.01, (10, 10)))
    runs["he"].accuracy[:] = published.accuracies("adam") + rng.normal(0, 0.001, (10, 10))
    assert by_point(runs)["pass_too"] == [["adam", "he"]]


@pytest.mark.parametrize("n", [3, 10])
def test_error_of_stated_size_is_detected_in_nine_of_ten_studies(n):
    level, studies = 0.05 / 120, 4000
    rng = np.random.default_rng(3)
    ours = rng.normal(5, 2, (studies, n))
    error = noticed_z(n, level) * 2 * (1 + 1 / n) ** 0.5
    z = [(x - row.mean()) / draw_spread(row, 0) for x, row in zip(rng.normal(5 + error, 2, studies), ours, strict=True)]
    noticed = (np.abs(z) > stats.t.isf(level / 2, n - 1)).sum()
    assert stats.binomtest(noticed, studies, POWER).pvalue > 0.001


def test_detectable_error_is_given_per_point():
    runs = fake_runs()
    point = by_point(runs)["points"][13]
    assert (point["lesson"], point["what"], point["epoch"]) == ("mlp", "loss", 4)
    spread = draw_spread(runs["mlp"].loss[:, 3], published.LOSS_STEP)
    assert point["noticed"] == pytest.approx(noticed_z(10, LEVEL / 120) * spread)


def test_error_in_all_points_is_detected_at_the_most_sensitive_one():
    found = by_point(fake_runs())
    for lesson_id in LESSONS:
        points = [point for point in found["points"] if point["lesson"] == lesson_id]
        noticed = noticed_in_all(points)
        factors = [point["noticed"] / point["mean"] for point in points if point["what"] == "loss"]
        assert noticed["loss_factor"] == pytest.approx(1 + min(factors))
        accuracies = [point for point in points if point["what"] == "accuracy"]
        moved = [1 / (1 + (1 / point["mean"] - 1) * np.exp(noticed["log_odds"])) for point in accuracies]
        shifts = [point["mean"] - accuracy for point, accuracy in zip(accuracies, moved, strict=True)]
        excess = [shift / point["noticed"] for point, shift in zip(accuracies, shifts, strict=True)]
        assert max(excess) == pytest.approx(1)
        assert noticed["last_accuracy"] == pytest.approx(shifts[-1])


def test_contrasts_use_every_number_in_its_units():
    time = np.linspace(-1, 1, 10)
    accuracy, loss = 1 / (1 + np.exp(-2 - time)), np.exp(-1 - 0.3 * time)
    assert contrasts(accuracy, loss) == pytest.approx([2, -1, -0.3], abs=2e-3)
    for values, moved in ((accuracy, [0]), (loss, [1, 2])):
        for epoch in range(10):
            before = contrasts(accuracy, loss)
            values[epoch] *= 1.001
            assert np.flatnonzero(contrasts(accuracy, loss) - before).tolist() == moved
    assert np.isfinite(contrasts(np.array([0.0, 1.0]), np.array([0.1, 0.1]))).all()


def test_curves_are_rounded_like_the_printed_ones():
    for lesson_id in LESSONS:
        printed = np.array(published.accuracies(lesson_id)), np.array(published.losses(lesson_id))
        for part in (-0.4, 0.4):
            near = printed[0] + part * published.ACCURACY_STEP, printed[1] + part * published.LOSS_STEP
            np.testing.assert_allclose(published.as_printed(*near), printed, rtol=1e-12)


def test_curves_are_compared_on_the_grid_of_the_printed_ones():
    runs = fake_runs()
    expected = by_curve({lesson_id: Curves(*published.as_printed(*ours)) for lesson_id, ours in runs.items()})
    assert by_curve(runs)["p"] == expected["p"]
    assert by_curve(runs)["leave_one_out"] == expected["leave_one_out"]


@pytest.mark.parametrize("n", [5, 10, 30])
def test_p_matches_wilks_for_a_group_of_one(n):
    rows = draws(np.random.default_rng(n), n + 1)
    within, total = (len(part) * np.cov(part.T, bias=True) for part in (rows[1:], rows))
    wilks = np.linalg.det(within) / np.linalg.det(total)  # of a sound world it is Beta((n - 3) / 2, 3 / 2)
    assert one_more_p(rows[0], rows[1:]) == pytest.approx(stats.beta.cdf(wilks, (n - 3) / 2, 3 / 2), rel=1e-6)


def test_false_rejection_rate_is_at_most_as_stated():
    studies = 2000
    worlds = draws(np.random.default_rng(4), studies, 11)
    rejected = sum(one_more_p(world[0], world[1:]) < LEVEL for world in worlds)
    assert stats.binom.ppf(0.001, studies, LEVEL) <= rejected <= stats.binom.ppf(0.999, studies, LEVEL)


def test_each_curve_is_tested_against_the_others_only():
    ours = draws(np.random.default_rng(5), 12)
    ours[3] += 20
    found = leave_one_out(ours)
    assert len(found) == 12
    assert found[3] == one_more_p(ours[3], np.concatenate([ours[:3], ours[4:]])) < 1e-3


@pytest.mark.parametrize("contrast", range(3))
def test_stated_shift_is_detected_in_nine_of_ten_studies(contrast):
    n, level, studies = 10, LEVEL / 6, 4000
    rng = np.random.default_rng(6)
    ours = rng.normal(size=(n, 3))
    whiten, colour = np.linalg.inv(np.linalg.cholesky(np.cov(ours.T))), np.linalg.cholesky(COVARIANCE)
    shift = np.zeros(3)
    shift[contrast] = noticed_shifts(ours @ (colour @ whiten).T, level)[contrast]
    noticed = sum(one_more_p(world[0] + shift, world[1:]) < level for world in draws(rng, studies, n + 1))
    assert stats.binomtest(noticed, studies, POWER).pvalue > 0.001


def test_detectable_error_is_in_units_of_the_curves():
    runs = fake_runs(30)
    found = by_curve(runs)
    ours = contrasts(*published.as_printed(*runs["relu"]))
    log_odds, log_loss, _ = noticed_shifts(ours, LEVEL / 6)
    last = runs["relu"].accuracy[:, -1].mean()
    shown = found["noticed"]["relu"]
    assert shown["loss_factor"] == pytest.approx(np.exp(log_loss))
    odds = [accuracy / (1 - accuracy) for accuracy in (last, last - shown["last_accuracy"])]
    assert np.log(odds[0] / odds[1]) == pytest.approx(log_odds) == shown["log_odds"]


def test_curves_are_tested_against_other_lessons():
    runs = fake_runs(30)
    half = Curves(*(values.copy() for values in runs["he"]))  # of runs as he's, half as adam's
    for values, others in zip(half, runs["adam"], strict=True):
        values[:15] = others[:15]
    shares = by_curve({**runs, "adam": half})["ours_rejected"]
    assert shares["mlp"] == dict.fromkeys(["dropout", "relu", "batch_norm", "he", "adam"], 1.0)
    assert 0 < shares["adam"]["he"] < 1


def test_too_few_seeds_are_not_compared_as_curves():
    assert by_curve(fake_runs(9)) is None
    assert by_curve(fake_runs(10)) is not None
