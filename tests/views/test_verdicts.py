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
from mnist_jax.views.verdicts import (
    budget_sentences,
    details,
    difference_words,
    edge_words,
    headlines,
    setting_words,
    short_words,
)

SIX = ("mlp", "dropout", "relu", "batch_norm", "he", "adam")
SCOPE = "32 trials each, spaces of docs/search_spaces.md, 20 seeds, 400 test images, 5 epochs"


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
    ("found", "says"),
    [
        (gap(0.68, 0.1), "adam is better than sgd by 0.68 points"),
        (gap(-0.05, 0.04), "sgd is better than adam, by less than 0.1 points"),
        (gap(0.01, 0.08), "adam and sgd are the same within 0.1 points"),
        (gap(-0.03, 0.08), "adam and sgd are not shown to differ (could be as much as 0.11 points)"),
    ],
)
def test_each_relation_has_its_words_in_short(found, says):
    assert short_words("adam", "sgd", found, 0.1) == says


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


def test_headline_has_the_course_and_the_searches():
    found = pair(course=gap(0.68, 0.1), settings=gap(0.04, 0.04), searches=gap(0.04, 0.05))
    assert said(found)[0] == [
        "he: with the course's settings (claim C), adam is better than sgd by 0.68 points; with what such searches "
        f"find (claim B), adam and sgd are the same within 0.1 points ({SCOPE})."
    ]
    assert said(pair(settings=gap(0.3, 0.1), searches=gap(0.3, 0.2)))[0] == [
        f"he: with what such searches find (claim B), adam is better than sgd by 0.30 points ({SCOPE})."
    ]


def test_claims_of_a_pair_are_named_with_what_they_rest_on():
    found = pair(
        course=gap(0.68, 0.1), settings=gap(0.2, 0.1), searches=gap(0.2, 0.15), tuned=gap(0.48, 0.1), share=(0.6, 0.82)
    )
    course, settings, searches, tuned, *_ = said(found)[1]
    assert course == (
        "he, claim C: with the course's settings, adam is better than sgd by 0.68 points [0.58, 0.78] (no search, 20 "
        "seeds, 400 test images, 5 epochs)."
    )
    assert settings.startswith("he, claim S: with the chosen settings (adam: learning rate ")
    assert settings.endswith(
        "adam is better than sgd by 0.20 points [0.10, 0.30]; a difference of 0.14 points would have been noticed in "
        f"9 of 10 studies ({SCOPE})."
    )
    assert searches == (
        f"he, claim B: with what such searches find, adam is better than sgd by 0.20 points [0.05, 0.35] ({SCOPE})."
    )
    assert tuned == (
        "he, claims C and S: of adam's lead over sgd with the course's settings, +0.48 points [+0.38, +0.58] are gone "
        "with the chosen ones; tuning explains 60 to 82 % of it, for these two settings (each interval by itself; "
        f"{SCOPE})."
    )


def test_settings_that_differ_where_another_search_may_not_find_so():
    found = pair(settings=gap(-0.2, 0.1), searches=gap(-0.2, 0.3))
    assert said(found)[1][1] == (
        "he, claim B: sgd's setting is better than adam's by 0.20 points [0.10, 0.30]; whether another search of 32 "
        f"trials would find so is open (+0.20 points [-0.10, +0.50]; {SCOPE})."
    )


def test_a_lead_of_the_first_named_is_told_as_its_own():
    """The course's sgd leads by 0.5 and by 0.1 after tuning: adam minus sgd goes from -0.5 to -0.1."""
    found = pair(
        course=gap(-0.5, 0.1), settings=gap(-0.1, 0.2), searches=gap(-0.1, 0.3), tuned=gap(-0.4, 0.2), share=(0.5, 1.1)
    )
    assert (
        "of sgd's lead over adam with the course's settings, +0.40 points [+0.20, +0.60] are gone" in said(found)[1][3]
    )


def test_no_share_is_told_of_a_lead_that_is_not_shown():
    found = pair(course=gap(0.1, 0.2), settings=gap(0.3, 0.2), searches=gap(0.3, 0.4), tuned=gap(-0.2, 0.3))
    assert said(found)[1][3] == (
        "he, claims C and S: from the course's settings to the chosen ones, adam minus sgd changes by +0.20 points "
        f"[-0.10, +0.50] (by itself; {SCOPE})."
    )


def test_best_is_among_those_that_no_other_is_shown_to_beat():
    results = comparison(nets=("he",), labels=("sgd", "adam", "lion"))
    found = [
        pair(names=("lion", "adam"), settings=gap(0.05, 0.04), searches=gap(0.05, 0.2)),
        pair(names=("lion", "sgd"), settings=gap(0.5, 0.1), searches=gap(0.5, 0.2)),
        pair(names=("adam", "sgd"), settings=gap(0.01, 0.08), searches=gap(0.01, 0.3)),
    ]
    assert headlines({"he": found}, results) == [
        f"he: with what such searches find (claim B), the best is among: adam; lion ({SCOPE})."
    ]
    settings, searches, both, *_ = details({"he": found}, results)
    assert settings == (
        "he, claim S: with the chosen settings, of 3 pairs, shown to differ: 2 (by less than 0.1 points: 1); the same "
        "within 0.1 points: 1; not shown to differ: 0. The best is among: lion; no other is shown to be better than "
        f"one of these ({SCOPE}). Differences of 0.14 to 0.14 points, depending on the pair, would have been noticed "
        "in 9 of 10 studies."
    )
    assert searches == (
        "he, claim B: with what such searches find, of 3 pairs, shown to differ: 1 (by less than 0.1 points: 0); the "
        "same within 0.1 points: 0; not shown to differ: 2. The best is among: adam; lion; no other is shown to be "
        f"better than one of these ({SCOPE})."
    )
    assert both.startswith(
        "he, claims S and B: of the 2 pairs whose settings are shown to differ, whether another search"
    )
    assert "would find so is open for 1 (" in both


def test_lead_over_the_nets_is_told_of_several_nets_with_two_optimizers():
    results = comparison(nets=SIX, images=80)
    *_, over = headlines(pairs(results), results)
    assert over.startswith("Over these six nets, claim B of the mean of the six leads, an interval by itself: ")
    assert "Over these" not in " ".join(verdict(comparison(nets=("he",))))
    assert "Over these" not in " ".join(verdict(comparison(labels=("sgd", "adam", "lion"))))


def test_how_intervals_are_meant():
    assert verdict(comparison())[-1].startswith(
        "Intervals of each claim are simultaneous over its 2 pairs (Bonferroni), 95 %"
    )
    assert verdict(comparison(nets=("he",)))[-1].startswith("The interval of each claim is by itself, 95 %")
    assert "within 0.1 points, a margin fixed beforehand" in verdict(comparison())[-1]
    assert "no two optimizers are called the same" in verdict(comparison(margin=None))[-1]


RATE, EPS = Range(("learning_rate",), 1e-5, 0.1), Range(("eps",), 1e-9, 1e-3)


@pytest.mark.parametrize(
    ("edge", "says"),
    [
        (Edge(RATE, "high", 5, False), "the best trials of adam crowd at the high end of its space (learning rate)"),
        (Edge(RATE, "low", 1, True), "the chosen trial of adam lies at the low end of its space (learning rate)"),
    ],
)
def test_a_crowded_end_is_told(edge, says):
    assert edge_words("adam", edge) == says


def test_a_setting_in_words():
    setting = {"learning_rate": 0.0123456, "momentum": 0.0, "nesterov": True, "weight_decay": 0.1, "schedule": "cosine"}
    assert setting_words(setting) == "learning rate 0.0123, nesterov, weight decay 0.1, cosine"


def curve(low, high):
    return Curve(np.array(low), np.array(low), np.array(high))


def test_a_lead_at_a_budget_needs_bands_apart():
    adam, sgd = curve([0.9, 0.95, 0.95], [0.92, 0.99, 1]), curve([0.8, 0.9, 0.96], [0.89, 0.94, 1])
    tuned = {label: TuningCurves(median, median, 2) for label, median in {"sgd": sgd, "adam": adam}.items()}
    assert budget_sentences({"he": tuned}, comparison(nets=("he",))) == [
        "he: of the best of 1, 2 trials drawn from each space, adam's median validation accuracy is higher than sgd's "
        "(32 trials each, both bands together at 95 %)."
    ]
    same = {"sgd": tuned["sgd"], "adam": tuned["sgd"]}
    assert budget_sentences({"he": same, "mlp": {**tuned, "lion": tuned["sgd"]}}, comparison()) == []
