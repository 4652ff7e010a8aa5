"""Tables of a comparison against its runs, and the page that holds them."""

import re

from helpers.comparisons import comparison

from mnist_jax.studies.dimensions import Range
from mnist_jax.studies.findings import accuracy, pairs
from mnist_jax.studies.search import Saving
from mnist_jax.studies.spaces import Edge
from mnist_jax.views import comparison_tables as tables
from mnist_jax.views.comparison import report, verdict
from mnist_jax.views.intervals import numbers, share_words

RATE, EPS = Range(("learning_rate",), 1e-5, 0.1), Range(("eps",), 1e-9, 1e-3)


def cells(row, header, *names):
    return [dict(zip(header, row, strict=True))[name] for name in names]


def test_final_table_is_sorted_by_name_and_has_the_course(monkeypatch):
    results = comparison(nets=("he",), labels=("sgd", "lion", "adam"))
    entries = results["nets"]["he"]
    entries["sgd"] = {**entries["sgd"], "chosen": 0}
    del entries["sgd"]["course"]
    rows = [cells(row, tables.FINAL_HEADER, "optimizer", "setting") for row in tables.final_rows(results)]
    assert [label for label, _ in rows] == ["adam", "adam", "lion", "sgd"]
    assert rows[1][1] == "the course's: learning rate 0.01, b1 0.9, b2 0.999, eps 1e-08, constant"
    assert rows[3][1] == "trial 0: learning rate 0.01, momentum 0.5, constant"
    monkeypatch.setitem(entries["lion"]["final"], "diverged", [True, *[False] * 19])
    entries["lion"]["final"]["test_correct"][3][-1] = 80  # a fifth of 400
    assert cells(tables.final_rows(results)[2], tables.FINAL_HEADER, "collapsed") == ["2 of 20 (1 diverged)"]


def test_final_rows_have_the_accuracy_of_their_own_setting():
    results = comparison(nets=("he",))
    rows = {tuple(row[:3]): row[3] for row in tables.final_rows(results)}
    shown = [
        numbers(accuracy(results["nets"]["he"][label][runs], results).points)
        for label in ("adam", "sgd")
        for runs in ("final", "course")
    ]
    assert list(rows.values()) == shown
    assert len(set(shown)) == 4
    assert ["the course's" in setting for _, _, setting in rows] == [False, True] * 2


def test_steps_to_a_target_and_their_difference():
    """Tested every 250 of 1,000 steps, 100 images: 95 right after 500 steps, or at the end, or never."""
    early, late, never = [[90, 95, 96], [97, 97, 97]], [[80, 90, 94], [94, 94, 94]], [[1, 2, 3], [4, 5, 6]]
    ends = {"early": [96, 97], "late": [94, 95], "never": [90, 90]}
    kinds = {"early": early, "late": late, "never": never}

    def runs(*names):
        course = {"tests": [never] * len(names), "test_correct": [ends["never"]] * len(names)}
        final = {"tests": [kinds[name] for name in names], "test_correct": [ends[name] for name in names]}
        return {"course": course, "final": final}

    results = {
        "config": {"test_every": 250, "steps_per_epoch": 1000, "epochs": 2, "confidence": 0.95},
        "data": {"test": 100},
        "nets": {"he": {"sgd": runs("late", "late", "never", "late"), "adam": runs(*["early"] * 4)}},
    }
    adam, sgd, difference = (
        cells(row, tables.STEPS_HEADER, "steps to 95 %", "steps to 98 %") for row in tables.steps_rows(results)
    )
    assert adam == ["500", "reached by 0 of 4 runs"]
    assert sgd == ["2,000, reached by 3 of 4 runs", "reached by 0 of 4 runs"]
    assert difference == ["+1,500, the same for all seeds", "—"]
    assert tables.steps_rows(results)[2][1] == "sgd minus adam"
    results["nets"]["he"]["sgd"] = runs("late", "early", "late", "late")
    assert tables.steps_rows(results)[2][2] == (
        "+1,125 [-68, +2,318], not shown to differ; adam first in 3 of 4 seeds, 1 tie"
    )


def test_search_table_has_good_rates_and_what_collapsed():
    """Trial 0 is the best, but was not drawn; trial 4 is chosen, not trial 3."""
    results = comparison(nets=("he",))
    entry = results["nets"]["he"]["adam"]
    trials = entry["trials"]
    for place, trial in enumerate(trials):
        trial["validation_correct"], trial["diverged"] = [4990 - place, 4000], False
        trial["settings"]["learning_rate"] = 0.001 * (1 + place)
    for place, correct in ((0, 4910), (3, 4900), (4, 4875), (5, 4874), (6, 1000), (7, 1001)):
        trials[place]["validation_correct"][-1] = correct
    trials[8] |= {"validation_correct": [400], "diverged": True}
    entry["chosen"] = 4
    entry["confirmation"] = [
        {"number": number, "validation_correct": counts}
        for number, counts in ((3, [4800, 4800, 4800]), (4, [4850, 4880, 4870]))
    ]
    row = tables.search_rows(results)[0]
    names = ("best trial", "chosen trial", "good learning rates", "collapsed")
    assert cells(row, tables.SEARCH_HEADER, *names) == [
        "98.20%",
        "4: 97.50% (97.33%)",
        "0.004 to 0.005 (2 of 32 trials)",
        "2 of 33 (1 diverged)",
    ]


def test_savings_of_early_stopping_have_a_column_per_rule(monkeypatch):
    all_kept, lost = Saving(2, 1, 0.4, True, 0), Saving(4, 1, 0.6, False, 5)
    found = iter([[all_kept, lost], [lost]])
    monkeypatch.setattr(tables, "halving_savings", lambda entry: next(found))
    header, rows = tables.savings_table(comparison(nets=("he",)))
    assert header == ["net", "optimizer", "best half after 1 epoch", "best quarter after 1 epoch"]
    words = "60 %, chosen trial stopped, 0.10 points lost"
    assert rows == [["he", "adam", "40 %", words], ["he", "sgd", "—", words]]


def test_page_has_headlines_tables_and_sentences():
    results = comparison(leads={"adam": 3.0})
    page = report(results)["README.md"].decode()
    first, *_ = verdict(results)
    assert page.startswith(f"- **{first}**\n")
    assert all(sentence in page for sentence in verdict(results))
    headers = (
        tables.PAIR_HEADER,
        tables.FINAL_HEADER,
        tables.STEPS_HEADER,
        tables.SEARCH_HEADER,
    )
    assert all(f"| {' | '.join(header)} |" in page for header in headers)
    assert re.findall(r"!\[[^]]+\]\((.+)\)", page) == [
        "differences.png",
        "learning_rates.png",
        "tuning_curves.png",
        "mechanism.png",
    ]
    assert page.index(tables.PAIR_NOTE) < page.index("differences.png")
    assert "QUICK" not in page
    assert report(comparison(quick=True))["README.md"].decode().startswith("**QUICK: ")


def test_a_long_table_of_pairs_is_below_the_figure_and_the_sentences():
    results = comparison(nets=("he",), labels=("sgd", "adam", "lion"))
    files = report(results)
    page = files["README.md"].decode()
    linked = re.findall(r"!\[[^]]+\]\((.+)\)", page)
    assert sorted(linked) == sorted(name for name in files if name.endswith(".png"))
    assert page.index("differences.png") < page.index(verdict(results)[-1]) < page.index(tables.PAIR_NOTE)


def test_pair_table_has_a_row_per_net_and_pair():
    results = comparison(leads={"adam": 3.0})
    found = pairs(results)
    rows = tables.pair_rows(found, results)
    assert [row[:2] for row in rows] == [["mlp", "adam minus sgd"], ["he", "adam minus sgd"]]
    claims = ("C: the course's settings", "S: chosen settings", "B: what searches find")
    for row, (pair,) in zip(rows, found.values(), strict=True):
        shown = cells(row, tables.PAIR_HEADER, *claims, "tuning explains")
        gaps = (pair.course, pair.settings.points, pair.searches)
        assert shown[:3] == [numbers(gap, 0.1, "+") for gap in gaps]
        assert shown[3] == (share_words(pair.share) if pair.share else "—")


def test_each_row_of_pairs_is_the_earlier_name_minus_the_later_one():
    results = comparison(nets=("he",), labels=("adam", "sgd", "lion"), leads={"lion": 2.0})
    found = pairs(results)
    assert [(pair.first, pair.second) for pair in found["he"]] == [("lion", "sgd"), ("lion", "adam"), ("sgd", "adam")]
    rows = tables.pair_rows(found, results)
    names = ("pair", "S: chosen settings", "C: the course's settings", "S on exactly these test images")
    lion_sgd, lion_adam, sgd_adam = found["he"]
    assert [cells(row, tables.PAIR_HEADER, *names) for row in rows] == [
        [
            "adam minus lion",
            numbers(lion_adam.settings.points.times(-1), 0.1, "+"),
            "—",
            numbers(lion_adam.settings.on_these_images.times(-1), sign="+"),
        ],
        [
            "adam minus sgd",
            numbers(sgd_adam.settings.points.times(-1), 0.1, "+"),
            numbers(sgd_adam.course.times(-1), 0.1, "+"),
            numbers(sgd_adam.settings.on_these_images.times(-1), sign="+"),
        ],
        [
            "lion minus sgd",
            numbers(lion_sgd.settings.points, 0.1, "+"),
            "—",
            numbers(lion_sgd.settings.on_these_images, sign="+"),
        ],
    ]


def test_only_crowded_rates_are_in_the_verdict_and_all_ends_in_the_table(monkeypatch):
    edges = {("he", "sgd"): [Edge(RATE, "high", 5, False), Edge(EPS, "low", 4, False)], ("he", "adam"): []}
    for module in ("verdicts", "comparison_tables"):
        monkeypatch.setattr(f"mnist_jax.views.{module}.crowded_edges", lambda results: edges)
    results = comparison(nets=("he",))
    warned = [sentence for sentence in verdict(results) if "a wider space may favour it" in sentence]
    assert warned == [
        "he: the best trials of sgd crowd at the high end of its space (learning rate); a wider space may favour it."
    ]
    adam, sgd = tables.search_rows(results)
    assert (adam[-1], sgd[-1]) == ("none", "learning rate high, eps low")
