from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from mnist_jax.studies import inference
from mnist_jax.studies.inference import (
    MARGINS,
    Estimate,
    best_among,
    components,
    explained_share,
    interval,
    noticeable_difference,
    pairs,
    relation,
    search_luck,
    two_way,
)
from mnist_jax.studies.stats import Interval, mean_interval

# The contrast of three seeds on four images, worked out by hand: sums of rows 2, 0, 3; of columns 2, 1, -1, 3; of
# squares 7. MSa = 7/12, MSb = 35/36, MSe = 5/36, so the variance is (7/12 + 30/36) / 12.
BY_HAND = np.array([[1, 0, 0, 1], [0, 0, -1, 1], [1, 1, 0, 1]])


def answers(seed=0, optimizers=3, seeds=5, images=60, *, unlike=1.0):
    """Right answers of optimizers whose images differ in difficulty, and differently for each by `unlike`."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(1, 1, images) + rng.normal(0, unlike, (optimizers, 1, images))
    return latent + rng.normal(0, 0.3, (optimizers, seeds, 1)) + rng.normal(0, 1, (optimizers, seeds, images)) > 0


# --- seeds and images ---


def test_variance_matches_an_example_by_hand():
    found = two_way(BY_HAND)
    assert found.mean == pytest.approx(5 / 12, abs=1e-12)
    assert found.standard_error**2 == pytest.approx(17 / 144, abs=1e-12)
    assert (found.seeds_part**2, found.images_part**2) == pytest.approx((7 / 144, 10 / 144), abs=1e-12)
    assert found.degrees == 2


def by_moments(x, y):
    """Covariance of two means from products of two answers that share the seed, the image, both or neither."""
    seeds, images = x.shape
    total = np.outer(x, y).reshape(seeds, images, seeds, images)
    same_seed, same_image = (np.eye(count, dtype=bool) for count in (seeds, images))

    def mean(one_seed, one_image):
        seed, image = same_seed == one_seed, same_image == one_image
        return total[seed[:, None, :, None] & image[None, :, None, :]].mean()

    neither = mean(False, False)
    of_seeds, of_images = mean(True, False) - neither, mean(False, True) - neither
    rest = mean(True, True) - neither - of_seeds - of_images
    return of_seeds / seeds + rest / (seeds * images), of_images / images


@pytest.mark.parametrize("seed", range(5))
def test_variance_matches_components_by_moments(seed):
    first, second, _ = answers(seed).astype(float)
    of_seeds, of_images = by_moments(first - second, first - second)
    found = two_way(first - second)
    assert of_images > 0
    assert (found.seeds_part**2, found.images_part**2) == pytest.approx((of_seeds, of_images), abs=1e-12)


def test_covariance_of_two_contrasts_matches_components_by_moments():
    first, second, third = answers().astype(float)
    contrasts = np.stack([first - second, first - third])
    expected = [[sum(by_moments(x, y)) for y in contrasts] for x in contrasts]
    np.testing.assert_allclose(components(contrasts).covariance(), expected, atol=1e-12)


def test_images_never_lower_the_variance_of_any_contrast():
    found = components(np.random.default_rng(0).normal(size=(3, 4, 50)))
    assert min(np.linalg.eigvalsh(found.images - found.error)) < 0  # by chance, since images play no part
    added = found.covariance() * 4 * 50 - found.seeds
    assert min(np.linalg.eigvalsh(added)) >= -1e-12
    assert max(np.linalg.eigvalsh(added)) == pytest.approx(max(np.linalg.eigvalsh(found.images - found.error)))


def test_images_part_is_none_where_images_vary_less_than_by_chance():
    found = two_way(np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 1]]))
    assert found.images_part == 0
    assert found.standard_error == found.seeds_part > 0


def test_all_pairs_match_their_differences():
    right = dict(zip("abcd", answers(optimizers=4), strict=True))
    found = pairs(right)
    assert list(found) == list(combinations("abcd", 2))
    for (a, b), each in found.items():
        assert each == pytest.approx(two_way(right[a].astype(int) - right[b]), abs=1e-12)


def test_optimizers_with_the_same_answers_do_not_differ():
    first, second, _ = answers()
    same = pairs({"a": first, "b": first, "c": second})["a", "b"]
    assert (same.mean, same.standard_error) == pytest.approx((0, 0), abs=1e-9)


def test_on_these_images_is_the_interval_over_seeds_alone():
    contrast = np.subtract(*answers(optimizers=2), dtype=float)
    found = two_way(contrast)
    assert interval(found.on_these_images) == pytest.approx(mean_interval(contrast.mean(1).tolist()))
    assert found.images_part > 0
    assert interval(found).low < interval(found.on_these_images).low


def test_interval_is_t_s_with_bonferroni_s_correction():
    found = Estimate(0.01, 0.003, 19, 0.0, 0.003)
    half = stats.t.ppf(1 - 0.025 / 66, 19) * (0.003**2 + 0.004**2) ** 0.5
    assert interval(found, 66, 0.004**2) == pytest.approx((0.01, 0.01 - half, 0.01 + half))
    assert interval(found, confidence=0.9).high == pytest.approx(0.01 + 0.003 * stats.t.ppf(0.95, 19))


@pytest.mark.parametrize(
    ("seeds", "comparisons", "errors"),
    [
        *((10, m, g) for m, g in ((1, 3.65), (6, 4.91), (15, 5.60), (66, 6.82))),
        *((20, m, g) for m, g in ((1, 3.42), (6, 4.33), (15, 4.77), (66, 5.48))),
        *((30, m, g) for m, g in ((1, 3.35), (6, 4.17), (15, 4.56), (66, 5.16))),
    ],
)
def test_noticeable_difference_matches_the_protocol_s_table(seeds, comparisons, errors):
    assert noticeable_difference(1.0, seeds, comparisons) == pytest.approx(errors, abs=0.005)
    assert noticeable_difference(0.02, seeds, comparisons) == pytest.approx(0.02 * errors, abs=1e-4)


@pytest.mark.parametrize("seeds", [2, 3, 20])
@pytest.mark.parametrize("comparisons", [1, 66])
def test_noticeable_difference_is_noticed_in_nine_of_ten_studies(seeds, comparisons):
    shift, limit = noticeable_difference(1.0, seeds, comparisons), stats.t.isf(0.025 / comparisons, seeds - 1)
    rng = np.random.default_rng(0)
    noticed = rng.normal(shift, 1, 40_000) > limit * (rng.chisquare(seeds - 1, 40_000) / (seeds - 1)) ** 0.5
    assert abs(noticed.sum() - 36_000) < 4 * 60  # 60 is the standard deviation


# --- the luck of a search ---


def weights(scores, course=None):
    """How often each drawn trial and trial 0 are found, read from the expected value of their indicators."""
    count = len(scores)
    indicators = np.eye(count + (course is not None))
    return [
        search_luck(scores, row[:count].tolist(), None if course is None else (course, row[-1])).expected
        for row in indicators
    ]


SCORES = [4_800, 4_910, 4_870, 4_870, 4_905, 4_650, 0, 4_890]


@pytest.mark.parametrize("course", [None, 4_960, 4_890, 4_880, 100])
def test_weights_are_those_of_resampled_searches(course):
    found = weights(SCORES, course)
    assert sum(found) == pytest.approx(1, abs=1e-12)
    drawn = np.random.default_rng(0).integers(len(SCORES), size=(100_000, len(SCORES)))
    # Of equals the lower number is better, and trial 0 has the lowest.
    order = sorted(range(len(SCORES)), key=lambda place: (-SCORES[place], place))
    rank = np.argsort(order)
    best = np.array(order)[rank[drawn].min(1)]
    if course is not None:
        best[np.array(SCORES)[best] <= course] = len(SCORES)
    counts = np.bincount(best, minlength=len(found))
    for count, share in zip(counts, found, strict=True):
        assert abs(count - 100_000 * share) <= 4 * (100_000 * share * (1 - share)) ** 0.5


def test_a_course_that_nothing_beats_is_always_found():
    found = search_luck(SCORES, [0.98] * 8, (5_000, 0.97))
    assert found == (0.97, 0)
    assert search_luck(SCORES, [0.98] * 8, (4_910, 0.97)) == (0.97, 0)


def test_variance_is_that_of_the_test_accuracies_found():
    tests = np.random.default_rng(0).normal(0.98, 0.001, 8)
    found, share = search_luck(SCORES, tests.tolist()), np.array(weights(SCORES))
    assert found.expected == pytest.approx(share @ tests)
    assert found.variance == pytest.approx(share @ tests**2 - (share @ tests) ** 2)


def test_scores_may_say_how_equals_rank():
    """Such as (images right, -loss): the second of two equals is better by its loss."""
    tests = [0.0, 1.0]
    assert search_luck([(4_900, -0.2), (4_900, -0.1)], tests).expected == pytest.approx(0.75)
    assert search_luck([4_900, 4_900], tests).expected == pytest.approx(0.25)
    assert search_luck([(4_900, -0.2)], [1.0], ((4_900, -0.3), 0.0)).expected == 1


# --- claims ---


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 2.0, "better"),
        (0.1, 0.9, "better, by less than the margin"),
        (0.1, 1.0, "better"),
        (-2.0, -0.1, "worse"),
        (-0.9, -0.1, "worse, by less than the margin"),
        (-1.0, -0.1, "worse"),
        (-0.9, 0.9, "the same within the margin"),
        (-1.0, 0.9, "not shown to differ"),
        (-0.9, 1.0, "not shown to differ"),
        (0.0, 0.9, "the same within the margin"),
        (0.0, 2.0, "not shown to differ"),
        (0.0, 0.0, "the same within the margin"),
    ],
)
def test_relation_is_that_of_the_table(low, high, said):
    found = Interval((low + high) / 2, low, high)
    assert relation(found, 1.0) == said
    if "margin" not in said:
        assert relation(found, None) == said


def test_without_a_margin_nothing_is_the_same():
    assert relation(Interval(0.0, 0.0, 0.0), None) == "not shown to differ"
    assert relation(Interval(0.2, 0.1, 0.3), None) == "better"


def test_margins_are_fractions():
    assert MARGINS == {"MNIST": 0.001, "Fashion-MNIST": 0.005}


def test_the_best_is_among_those_that_no_other_is_shown_to_beat():
    better, worse, open_ = Interval(1, 0.5, 1.5), Interval(-1, -1.5, -0.5), Interval(1, -1, 3)
    found = {("c", "a"): open_, ("c", "b"): better, ("a", "b"): open_}
    assert best_among(found) == ["a", "c"]
    assert best_among(dict.fromkeys(found, open_)) == ["a", "b", "c"]
    assert best_among({("a", "b"): worse}) == ["b"]


@pytest.mark.parametrize("sign", [1, -1])
def test_explained_share_ends_where_the_contrast_is_just_shown_to_differ(sign):
    rng = np.random.default_rng(0)
    image = rng.normal(0, 2, (2, 1, 40))  # so that no variance is clipped
    chosen, course = np.array([1, sign * 8])[:, None, None] + image + rng.normal(0, 1, (2, 6, 40))
    low, high = explained_share(chosen, course)
    assert low < 1 - chosen.mean() / course.mean() < high
    for share in (low, high):
        found = interval(two_way(chosen - (1 - share) * course))
        assert min(abs(found.low), abs(found.high)) == pytest.approx(0, abs=1e-12)
    within = interval(two_way(chosen - (1 - (low + high) / 2) * course))
    assert not within.excludes_zero


def test_a_lead_that_is_not_shown_has_no_explained_share():
    lead = np.random.default_rng(0).normal(0, 1, (6, 40))
    assert not interval(two_way(lead)).excludes_zero
    assert explained_share(lead + 5, lead) is None


def test_a_lead_that_tuning_removes_is_fully_explained():
    course = np.random.default_rng(0).normal(5, 1, (6, 40))
    assert explained_share(np.zeros((6, 40)), course) == pytest.approx((1, 1))


def test_confidence_is_that_of_the_protocol():
    assert (inference.CONFIDENCE, inference.POWER) == (0.95, 0.9)
