"""The words of a comparison's verdict against hand-made cases."""

import numpy as np
import pytest
from helpers.comparisons import comparison

from mnist_jax.studies.dimensions import Range
from mnist_jax.studies.findings import Measured, Pair, pairs
from mnist_jax.studies.spaces import Edge
from mnist_jax.studies.stats import Interval
from mnist_jax.studies.tuning_curves import Curve, TuningCurves
from mnist_jax.views.comparison import verdict
from mnist_jax.views.intervals import decimals, detectable, numbers, share_words
from mnist_jax.views.verdicts import (
    budget_sentences,
    details,
    difference_words,
    edge_words,
    headlines,
    setting_words,
)

SIX = ("mlp", "dropout", "relu", "batch_norm", "he", "adam")
SCOPE = "32 trials each, spaces of docs/search_spaces.md, 20 seeds, 400 test images, 5 epochs"
UNSEARCHED = "no search, 20 seeds, 400 test images, 5 epochs"


def gap(mean, half):
    return Interval(mean, mean - half, mean + half)


@pytest.mark.parametrize(
    ("found", "limit", "says"),
    [
        (gap(0.68, 0.1), 0.1, "adam is better than sgd by 0.68 points [0.58, 0.78]"),
        (gap(-0.68, 0.1), 0.1, "sgd is better than adam by 0.68 points [0.58, 0.78]"),
        (gap(0.05, 0.04), 0.1, "adam is better than sgd, by less than 0.1 points (0.05 points [0.01, 0.09])"),
        (gap(-0.05, 0.04), 0.1, "sgd is better than adam, by less than 0.1 points (0.05 points [0.01, 0.09])"),
        (gap(0.05, 0.04), None, "adam is better than sgd by 0.05 points [0.01, 0.09]"),
        (gap(0.07, 0.04), 0.1, "adam is better than sgd by 0.07 points [0.03, 0.11]"),
        (
            gap(0.01, 0.08),
            0.1,
            "adam and sgd are the same within 0.1 points (adam minus sgd: +0.01 points [-0.07, +0.09])",
        ),
        (
            gap(0.01, 0.08),
            None,
            "adam and sgd are not shown to differ (adam minus sgd: +0.01 points [-0.07, +0.09]; could be as much as "
            "0.09)",
        ),
        (
            gap(-0.03, 0.08),
            0.1,
            "adam and sgd are not shown to differ (adam minus sgd: -0.03 points [-0.11, +0.05]; could be as much as "
            "0.11)",
        ),
    ],
)
def test_each_relation_has_its_words(found, limit, says):
    assert difference_words("adam", "sgd", found, limit) == says


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (
            (-0.1004, 0.05),
            "adam and sgd are not shown to differ (adam minus sgd: -0.0252 points [-0.1004, +0.0500]; could be as "
            "much as "
            "0.1004)",
        ),
        (
            (-0.0996, 0.05),
            "adam and sgd are the same within 0.1 points (adam minus sgd: -0.0248 points [-0.0996, +0.0500])",
        ),
        (
            (-0.0951, 0.05),
            "adam and sgd are the same within 0.1 points (adam minus sgd: -0.023 points [-0.095, +0.050])",
        ),
        ((0.0004, 0.2), "adam is better than sgd by 0.1002 points [0.0004, 0.2000]"),
        ((-0.2, -0.0004), "sgd is better than adam by 0.1002 points [0.0004, 0.2000]"),
        ((0.1, 0.3), "adam is better than sgd by 0.20 points [0.10, 0.30]"),
    ],
)
def test_no_rounded_end_contradicts_the_words(ends, says):
    assert difference_words("adam", "sgd", Interval(sum(ends) / 2, *ends), 0.1) == says


def test_half_of_an_interval_beside_its_mean_is_on_the_side_of_its_ends():
    """0.104 and 0.096 would be 0.10 and 0.10, as if 0 were no further than the end."""
    assert decimals(Interval(0.104, 0.008, 0.2)) == 3
    assert decimals(Interval(0.104, 0.108 - 0.1, 0.2), 0.1) == 3
    assert decimals(Interval(0.3, 0.1, 0.5), 0.1) == 2
    assert numbers(Interval(0.0, 0.0, 0.0)) == "0.00 [0.00, 0.00]"


def test_detectable_differences_are_rounded_up_and_shares_outwards():
    assert [detectable(value) for value in (0.14, 0.1401, 0.1499, 0.002)] == ["0.14", "0.15", "0.15", "0.01"]
    assert share_words((0.6, 0.82)) == "60 to 82 %"
    assert share_words((0.604, 1.002)) == "60 to 101 %"
    assert share_words((-0.004, 0.3)) == "-1 to 30 %"
    assert share_words((0.0, 0.3)) == "0 to 30 %"


def test_rounding_makes_no_negative_zero():
    assert "+0.00 points [-0.20, +0.20]" in difference_words("adam", "sgd", gap(-0.001, 0.2), 0.1)


def pair(*, course=None, settings, searches, share=None, tuned=None, names=("adam", "sgd")):
    measured = Measured(settings, 0.02, 0.01, settings)
    return Pair(
        *names,
        course=course,
        settings=measured,
        searches=searches,
        noticed=0.14,
        tuned=tuned,
        share=share,
    )


def said(found, **config):
    """Headline, and the other sentences on this pair."""
    results = comparison(nets=("he",), **config)
    return headlines({"he": [found]}, results), details({"he": [found]}, results)


def test_headline_has_the_course_and_the_searches_each_with_what_it_rests_on():
    found = pair(course=gap(0.68, 0.1), settings=gap(0.04, 0.04), searches=gap(0.04, 0.05))
    assert said(found)[0] == [
        "he: with the course's settings (claim C), adam is better than sgd by 0.68 points [0.58, 0.78] "
        f"({UNSEARCHED}); as found by such searches (claim B), adam and sgd are the same within 0.1 points (adam minus "
        f"sgd: +0.04 points [-0.01, +0.09]; {SCOPE})."
    ]
    assert said(pair(settings=gap(0.3, 0.1), searches=gap(0.3, 0.2)))[0] == [
        f"he: as found by such searches (claim B), adam is better than sgd by 0.30 points [0.10, 0.50] ({SCOPE})."
    ]


def test_claims_of_a_pair_are_named_with_what_they_rest_on():
    found = pair(
        course=gap(0.68, 0.1), settings=gap(0.2, 0.1), searches=gap(0.2, 0.15), tuned=gap(0.48, 0.1), share=(0.6, 0.82)
    )
    course, settings, searches, tuned, *_ = said(found)[1]
    assert course == (
        f"he, claim C: with the course's settings, adam is better than sgd by 0.68 points [0.58, 0.78] ({UNSEARCHED})."
    )
    assert settings.startswith("he, claim S: with the chosen settings (adam: learning rate ")
    assert settings.endswith(
        f"adam is better than sgd by 0.20 points [0.10, 0.30] ({SCOPE}); a difference of 0.14 points would have been "
        "noticed in 9 of 10 studies."
    )
    assert searches == (
        f"he, claim B: as found by such searches, adam is better than sgd by 0.20 points [0.05, 0.35] ({SCOPE})."
    )
    assert tuned == (
        "he, claims C and S: of adam's lead over sgd with the course's settings, 0.48 points [0.38, 0.58] are gone "
        "with the chosen ones; tuning explains 60 to 82 % of it, for these two settings (each interval unadjusted; "
        f"{SCOPE})."
    )


@pytest.mark.parametrize(
    ("settings", "setting_says"),
    [
        (gap(-0.2, 0.1), "sgd's setting is better than adam's setting by 0.20 points [0.10, 0.30]"),
        (
            gap(-0.05, 0.04),
            "sgd's setting is better than adam's setting, by less than 0.1 points (0.05 points [0.01, 0.09])",
        ),
    ],
)
def test_settings_that_differ_where_another_search_may_not_find_so(settings, setting_says):
    found = pair(settings=settings, searches=gap(-0.2, 0.3))
    headlines_, (_, searches, *_) = said(found)
    words = (
        "adam and sgd are not shown to differ (adam minus sgd: -0.20 points [-0.50, +0.10]; could be as much as 0.50"
    )
    assert headlines_ == [f"he: as found by such searches (claim B), {words}; {SCOPE})."]
    assert searches == (
        f"he, claim B: as found by such searches, {words}; {SCOPE}): {setting_says}; whether another search of 32 "
        "trials "
        "would find so is open."
    )


@pytest.mark.parametrize("settings", [gap(0.05, 0.04), gap(0.01, 0.04)])
def test_searches_that_find_the_same_leave_nothing_open(settings):
    assert said(pair(settings=settings, searches=gap(0.03, 0.06)))[1][1] == (
        "he, claim B: as found by such searches, adam and sgd are the same within 0.1 points (adam minus sgd: +0.03 "
        f"points [-0.03, +0.09]; {SCOPE})."
    )


def tuned_words(**changed):
    (found,) = (line for line in said(pair(searches=gap(0, 1), settings=gap(0, 1), **changed))[1] if "C and S" in line)
    return found.removeprefix("he, claims C and S: ").replace(f"; {SCOPE})", ")")


def test_a_lead_of_the_first_named_is_described_as_its_own():
    """The course's sgd leads by 0.5 and by 0.1 after tuning: adam minus sgd goes from -0.5 to -0.1."""
    assert tuned_words(course=gap(-0.5, 0.1), tuned=gap(-0.4, 0.2), share=(0.5, 1.1)) == (
        "of sgd's lead over adam with the course's settings, 0.40 points [0.20, 0.60] are gone with the chosen ones; "
        "tuning explains 50 to 110 % of it, for these two settings (above 100 %: adam would lead; each interval "
        "unadjusted)."
    )


def test_a_lead_that_is_not_shown_to_shrink_is_not_called_gone():
    assert tuned_words(course=gap(0.5, 0.1), tuned=gap(0.001, 0.2), share=(-0.401, 1.2)) == (
        "from the course's settings to the chosen ones, adam's lead over sgd changes by +0.00 points [-0.20, +0.20], "
        "not "
        "shown to differ from 0; tuning explains -41 to 120 % of it, for these two settings (below 0 %: the lead "
        "would be "
        "larger; above 100 %: sgd would lead; each interval unadjusted)."
    )
    assert tuned_words(course=gap(-0.5, 0.1), tuned=gap(0.3, 0.2), share=(-1.2, -0.2)) == (
        "from the course's settings to the chosen ones, sgd's lead over adam changes by +0.30 points [+0.10, +0.50]; "
        "tuning explains -120 to -20 % of it, for these two settings (below 0 %: the lead would be larger; each "
        "interval "
        "unadjusted)."
    )


def test_no_share_is_given_for_a_lead_that_is_not_shown():
    assert tuned_words(course=gap(0.1, 0.2), tuned=gap(-0.2, 0.3)) == (
        "from the course's settings to the chosen ones, adam minus sgd changes by +0.20 points [-0.10, +0.50], not "
        "shown "
        "to differ from 0 (unadjusted)."
    )
    assert tuned_words(course=gap(-0.1, 0.2), tuned=gap(-0.4, 0.3)) == (
        "from the course's settings to the chosen ones, adam minus sgd changes by +0.40 points [+0.10, +0.70] "
        "(unadjusted)."
    )


def test_best_is_among_those_that_no_other_is_shown_to_beat():
    results = comparison(nets=("he",), labels=("sgd", "adam", "lion"))
    found = [
        pair(names=("lion", "adam"), settings=gap(0.05, 0.04), searches=gap(0.05, 0.2)),
        pair(names=("lion", "sgd"), settings=gap(0.5, 0.1), searches=gap(0.5, 0.2)),
        pair(names=("adam", "sgd"), settings=gap(0.01, 0.08), searches=gap(0.01, 0.3)),
    ]
    assert headlines({"he": found}, results) == [
        f"he: as found by such searches (claim B), the best is among: adam; lion ({SCOPE})."
    ]
    settings, searches, both, *_ = details({"he": found}, results)
    assert settings == (
        "he, claim S: with the chosen settings, of 3 pairs, shown to differ: 2 (by less than 0.1 points: 1); the same "
        "within 0.1 points: 1; not shown to differ: 0. The best is among: lion; no other is shown to be better than "
        f"one of these ({SCOPE}). A difference of 0.14 points would have been noticed in 9 of 10 studies."
    )
    assert searches == (
        "he, claim B: as found by such searches, of 3 pairs, shown to differ: 1 (by less than 0.1 points: 0); the "
        "same within 0.1 points: 0; not shown to differ: 2. The best is among: adam; lion; no other is shown to be "
        f"better than one of these ({SCOPE})."
    )
    assert both.startswith(
        "he, claims S and B: of the 2 pairs whose settings are shown to differ, whether another search"
    )
    assert "would find so is open for 1 (" in both
    found[0] = found[0]._replace(settings=found[0].settings._replace(points=gap(0.05, 0.2)), noticed=0.201)
    found[1] = found[1]._replace(searches=gap(0.02, 0.6))
    settings, _, both, *_ = details({"he": found}, results)
    assert "Differences of 0.14 to 0.21 points, depending on the pair, would" in settings
    assert "of the pair whose settings are shown to differ, whether" in both


def test_mean_lead_is_given_for_several_nets_with_two_optimizers():
    results = comparison(nets=SIX, images=80)
    *_, over = headlines(pairs(results), results)
    assert over.startswith(
        "Over these six nets, the mean of the six leads: as found by such searches (claim B, unadjusted interval), "
    )
    assert "Over these" not in " ".join(verdict(comparison(nets=("he",))))
    assert "Over these" not in " ".join(verdict(comparison(labels=("sgd", "adam", "lion"))))


def test_how_to_read_intervals_is_explained():
    two = verdict(comparison())[-1]
    assert two.startswith("Intervals of each claim are simultaneous over 2 pairs (Bonferroni), 95 %")
    assert verdict(comparison(nets=("he",)))[-1].startswith("The interval of each claim stands alone, 95 %")
    assert "within 0.1 points, a margin fixed beforehand" in two
    assert "no two optimizers are called the same" in verdict(comparison(margin=None))[-1]
    assert two.endswith("a stricter condition than an unadjusted one.")
    assert "A share" not in verdict(comparison(nets=("he",)))[-1]


def test_stricter_levels_of_claim_c_and_of_the_share_are_stated():
    results = comparison(nets=("he",), labels=("sgd", "adam", "lion"))
    course = pair(course=gap(0.5, 0.1), settings=gap(0.2, 0.1), searches=gap(0.2, 0.1), share=(0.2, 0.3))
    of_net = [course, *[course._replace(course=None, share=None)] * 2]
    how = details({"he": of_net}, results)[-1]
    assert how.startswith(
        "Intervals of each claim are simultaneous over 3 pairs (Bonferroni; claim C has 1 pair and takes the same "
        "level), 95 %"
    )
    assert how.endswith(
        "A share is told only where the interval of claim C, at its family's level, excludes 0, a stricter condition "
        "than "
        "an unadjusted one."
    )


RATE, EPS = Range(("learning_rate",), 1e-5, 0.1), Range(("eps",), 1e-9, 1e-3)


@pytest.mark.parametrize(
    ("edge", "says"),
    [
        (Edge(RATE, "high", 5, False), "the best trials of adam crowd at the high end of its space (learning rate)"),
        (Edge(RATE, "low", 3, True), "the chosen trial of adam lies at the low end of its space (learning rate)"),
        (
            Edge(RATE, "low", 4, True),
            "the best trials of adam crowd, and the chosen one lies, at the low end of its space (learning rate)",
        ),
    ],
)
def test_a_crowded_end_is_reported(edge, says):
    assert edge_words("adam", edge) == says


def test_a_setting_in_words():
    setting = {"learning_rate": 0.0123456, "momentum": 0.0, "nesterov": True, "weight_decay": 0.1, "schedule": "cosine"}
    assert setting_words(setting) == "learning rate 0.0123, nesterov, weight decay 0.1, cosine"


def curve(low, high):
    return Curve(np.array(low), np.array(low), np.array(high))


def test_a_lead_at_a_budget_needs_bands_apart():
    adam, sgd = curve([0.9, 0.95, 0.95], [0.92, 0.99, 1]), curve([0.8, 0.9, 0.96], [0.89, 0.94, 1])
    apart = {"sgd": curve([0.8] * 3, [0.81] * 3), "adam": curve([0.9] * 3, [0.91] * 3)}  # expected: at all budgets
    tuned = {label: TuningCurves(median, apart[label], 2) for label, median in {"sgd": sgd, "adam": adam}.items()}
    for either in (tuned, dict(reversed(tuned.items()))):
        assert budget_sentences({"he": either}, comparison(nets=("he",))) == [
            "he: with 1 or 2 trials, the median of adam's best validation accuracy is higher than sgd's (32 trials "
            "each, "
            "both bands together at 95 %)."
        ]
    same = {"sgd": tuned["sgd"], "adam": tuned["sgd"]}
    assert budget_sentences({"he": same, "mlp": {**tuned, "lion": tuned["sgd"]}}, comparison()) == []
