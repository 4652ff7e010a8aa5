"""Tables of a comparison against its runs, and the page that holds them."""

from helpers.comparisons import comparison

from mnist_jax.studies.dimensions import Range
from mnist_jax.studies.findings import pairs
from mnist_jax.studies.search import Saving
from mnist_jax.studies.spaces import Edge
from mnist_jax.views import comparison_tables as tables
from mnist_jax.views.comparison import report, verdict
from mnist_jax.views.verdicts import difference_words

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
    assert cells(tables.final_rows(results)[2], tables.FINAL_HEADER, "collapsed") == ["2 of 20"]


def test_steps_to_a_target_and_their_difference():
    """Tested every 250 of 1,000 steps, 100 images: 95 right after 500 steps, or at the end, or never."""
    early, late, never = [[90, 95, 96], [97, 97, 97]], [[80, 90, 94], [94, 94, 94]], [[1, 2, 3], [4, 5, 6]]
    ends = {"early": [96, 97], "late": [94, 95], "never": [90, 90]}
    kinds = {"early": early, "late": late, "never": never}

    def runs(*names):
        return {"final": {"tests": [kinds[name] for name in names], "test_correct": [ends[name] for name in names]}}

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
    results = comparison(nets=("he",))
    trials = results["nets"]["he"]["adam"]["trials"]
    for place, trial in enumerate(trials):
        trial["validation_correct"], trial["diverged"] = [4000], False
        trial["settings"]["learning_rate"] = 0.001 * (1 + place)
    for place, correct in ((3, 4900), (4, 4875), (5, 4874), (6, 1000), (7, 1001)):
        trials[place]["validation_correct"] = [correct]
    trials[8] |= {"validation_correct": [400], "diverged": True}
    row = tables.search_rows(results)[0]
    names = ("best trial", "good learning rates", "diverged", "at chance")
    assert cells(row, tables.SEARCH_HEADER, *names) == [
        "98.00%",
        "0.004 to 0.005 (2 of 32 trials)",
        "1 of 33",
        "1 of 33",
    ]


def test_savings_of_early_stopping_have_a_column_per_rule(monkeypatch):
    all_kept, lost = Saving(2, 1, 0.4, True, 0), Saving(4, 1, 0.6, False, 5)
    found = iter([[all_kept, lost], [lost]])
    monkeypatch.setattr(tables, "halving_savings", lambda entry: next(found))
    header, rows = tables.savings_table(comparison(nets=("he",)))
    assert header == ["net", "optimizer", "1 of 2 after 1 epoch", "1 of 4 after 1 epoch"]
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
    assert "QUICK" not in page
    assert report(comparison(quick=True))["README.md"].decode().startswith("**QUICK: ")


def test_pair_table_has_a_row_per_net_and_pair():
    results = comparison(leads={"adam": 3.0})
    found = pairs(results)
    rows = tables.pair_rows(found, results)
    assert [row[:2] for row in rows] == [["mlp", "adam and sgd"], ["he", "adam and sgd"]]
    for row, (pair,) in zip(rows, found.values(), strict=True):
        shown = cells(row, tables.PAIR_HEADER, "S: chosen settings", "noticed (S)", "tuning explains")
        assert shown[0] == difference_words("adam", "sgd", pair.settings.points, 0.1)
        assert shown[1] == f"{pair.noticed:.2f}"
        assert shown[2] == ("{:.0f} to {:.0f} %".format(*(100 * end for end in pair.share)) if pair.share else "—")


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
