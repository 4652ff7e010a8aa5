"""Findings of a comparison, for hand-made results and against the inference functions."""

import itertools
import json

import numpy as np
import pytest
from helpers.comparisons import comparison

from mnist_jax.runs.records import pack_bits
from mnist_jax.studies import findings
from mnist_jax.studies.findings import accuracy, course_runs, crowded_edges, mean_over_nets, pairs, right
from mnist_jax.studies.inference import explained_share, interval, noticeable_difference, two_way
from mnist_jax.studies.spaces import SPACES, edges


def answers(runs):
    return right(runs, 400).astype(float)


@pytest.fixture(scope="module")
def results():
    """The content of a results.json: two nets, two optimizers."""
    return json.loads(json.dumps(comparison(leads={"adam": 3.0})))


def test_pairs_are_compared_image_by_image_with_simultaneous_intervals(results):
    for net, (pair,) in pairs(results).items():
        assert (pair.first, pair.second) == ("adam", "sgd")
        adam, sgd = (results["nets"][net][label] for label in ("adam", "sgd"))
        chosen = two_way(answers(adam["final"]) - answers(sgd["final"]))
        assert pair.settings.points == pytest.approx(interval(chosen, 2).times(100))
        assert pair.settings.on_these_images == pytest.approx(interval(chosen.on_these_images).times(100))
        parts = (pair.settings.seeds_part, pair.settings.images_part)
        assert parts == pytest.approx((100 * chosen.seeds_part, 100 * chosen.images_part))
        assert pair.noticed == pytest.approx(100 * noticeable_difference(chosen.standard_error, 20, 2))
        leads = answers(adam["final"]) - answers(sgd["final"]), answers(adam["course"]) - answers(sgd["course"])
        assert pair.course == pytest.approx(interval(two_way(leads[1]), 2).times(100))
        assert pair.tuned == pytest.approx(interval(two_way(leads[1] - leads[0])).times(100))
        assert pair.share == pytest.approx(explained_share(*leads))
        luck = sum(findings.search_variance(entry, 400) for entry in (adam, sgd))
        assert pair.searches == pytest.approx(interval(chosen, 2, luck).times(100))
        assert pair.searches.low < pair.settings.points.low


def test_no_share_of_a_lead_that_is_not_shown():
    for (pair,) in pairs(comparison()).values():
        assert not pair.course.excludes_zero
        assert pair.share is None
        assert pair.tuned is not None


def test_all_pairs_of_a_net_are_a_family():
    results = comparison(nets=("he",), labels=("sgd", "adam", "lion", "yogi"))
    assert findings.number_of_pairs(results) == 6
    found = pairs(results)["he"]
    names = [(pair.first, pair.second) for pair in found]
    assert names == list(itertools.combinations(["yogi", "lion", "adam", "sgd"], 2))
    difference = two_way(
        answers(results["nets"]["he"]["yogi"]["final"]) - answers(results["nets"]["he"]["sgd"]["final"])
    )
    assert found[2].settings.points == pytest.approx(interval(difference, 6).times(100))
    assert [pair.course is not None for pair in found] == [name == ("adam", "sgd") for name in names]


def test_accuracy_of_a_setting_counts_its_images(results):
    runs = results["nets"]["he"]["adam"]["final"]
    found = accuracy(runs, results)
    assert found.points.mean == pytest.approx(100 * np.mean([run[-1] for run in runs["test_correct"]]) / 400)
    assert found.points == pytest.approx(interval(two_way(answers(runs))).times(100))


def test_images_are_in_the_order_of_their_file():
    answers_of_two = np.array([[True, False, True] * 4, [False] * 12])
    np.testing.assert_array_equal(right({"right": list(map(pack_bits, answers_of_two))}, 12), answers_of_two)


def test_course_runs():
    final, course = {"seeds": [1]}, {"seeds": [2]}
    assert course_runs("adam", {"chosen": 3, "final": final, "course": course}) is course
    assert course_runs("adam", {"chosen": 0, "final": final}) is final
    assert course_runs("lion", {"chosen": 0, "final": final}) is None
    assert course_runs("sgd, momentum 0.9", {"chosen": 3, "final": final}) is None


def trial(number, correct, test, loss=0.1):
    return {
        "number": number,
        "validation_correct": [9 - correct, correct],
        "validation_loss": [0.3, loss],
        "test_correct": [11 * number, test],
        "diverged": False,
    }


def test_luck_of_a_search_weights_each_trial_by_how_often_it_is_found():
    """Of two draws the better one (60 right) is in 3 of 4 resampled searches; else trial 0 is found (50 right)."""
    entry = {"trials": [trial(0, 5, 50), trial(1, 4, 80), trial(2, 6, 60)]}
    expected = np.var([0.6, 0.6, 0.6, 0.5])
    assert findings.search_variance(entry, 100) == pytest.approx(expected)
    # Of equal validation accuracy the lower loss is better: now the second draw is found, or the first, never trial 0.
    equal = {"trials": [trial(0, 6, 50, loss=0.2), trial(1, 6, 80, loss=0.1), trial(2, 6, 60, loss=0.05)]}
    assert findings.search_variance(equal, 100) == pytest.approx(np.var([0.6, 0.6, 0.6, 0.8]))


def test_leads_are_averaged_over_nets_run_by_run_and_image_by_image(results):
    leads, luck = [], 0.0
    for entries in results["nets"].values():
        leads.append(answers(entries["adam"]["final"]) - answers(entries["sgd"]["final"]))
        luck += sum(findings.search_variance(entry, 400) for entry in entries.values())
    expected = interval(two_way((leads[0] + leads[1]) / 2), 1, luck / 4).times(100)
    assert mean_over_nets(results) == pytest.approx(expected)


def test_no_mean_over_nets_of_one_net_or_of_many_optimizers():
    assert mean_over_nets(comparison(nets=("he",))) is None
    assert mean_over_nets(comparison(labels=("sgd", "adam", "lion"))) is None


def test_ends_are_checked_in_the_recorded_space(results):
    """Where all good trials have rates near the high end."""
    entry = results["nets"]["he"]["adam"]
    _, *drawn = entry["trials"]
    for each in drawn:
        each["validation_correct"] = [int(1000 * each["settings"]["learning_rate"])]
    scores = [each["validation_correct"][-1] for each in drawn]
    chosen = entry["trials"][entry["chosen"]]["settings"] if entry["chosen"] else None
    expected = edges(SPACES["adam"], [each["settings"] for each in drawn], scores, chosen)
    assert crowded_edges(results)["he", "adam"] == expected
    assert "learning_rate" in expected[0].range.names
    assert expected[0].end == "high"


def test_the_end_of_sgd_s_rate_depends_on_its_momentum(results):
    """Its range is of learning rate / (1 - momentum)."""
    entry = results["nets"]["he"]["sgd"]
    entry["trials"][1]["settings"] |= {"learning_rate": 0.0295, "momentum": 0.99}  # 2.95 of 0.01 to 3
    entry["chosen"] = 1
    assert any(edge.has_chosen and edge.end == "high" for edge in crowded_edges(results)["he", "sgd"])


def test_trial_0_was_not_drawn_and_crowds_at_no_end():
    """It is the best, with three of the drawn ones, at the high end; four are a crowd."""
    results = comparison(nets=("he",))
    entry = results["nets"]["he"]["adam"]
    for trial in entry["trials"]:
        high = trial["number"] in (0, 3, 7, 11)
        trial["settings"] |= {"learning_rate": 0.099 if high else 0.001, "b1": 0.9, "b2": 0.99, "eps": 1e-6}
        trial["validation_correct"][-1] = 4900 if high else 4800 - trial["number"]
    entry["chosen"] = 0
    assert crowded_edges(results)["he", "adam"] == []
    entry["trials"][5]["settings"]["learning_rate"] = 0.099
    (edge,) = crowded_edges(results)["he", "adam"]
    assert (edge.end, edge.crowded, edge.has_chosen) == ("high", 4, False)
    entry["chosen"] = 5
    assert crowded_edges(results)["he", "adam"] == [edge._replace(has_chosen=True)]


@pytest.mark.parametrize(("labels", "confidence"), [(("sgd", "adam"), 0.975), (("sgd", "adam", "lion"), 0.95)])
def test_bands_of_two_optimizers_hold_together(monkeypatch, labels, confidence):
    asked = []
    monkeypatch.setattr(findings, "tuning_curves", lambda scores, confidence: asked.append((len(scores), confidence)))
    findings.tuning(comparison(nets=("he",), labels=labels))
    assert asked == [(32, pytest.approx(confidence))] * len(labels)
