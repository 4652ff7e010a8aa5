import json

import numpy as np
import pytest
from helpers import script
from scipy.stats import binom


def test_every_optimizer_appears_once_plus_sgd_with_momentum():
    made = script("optimizers").contestants((0.01, 0.1))
    names = ["sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "nadam"]
    assert [entrant.label for entrant in made] == [*names, "sgd, momentum 0.9"]
    assert {entrant.learning_rates for entrant in made} == {(0.01, 0.1)}


@pytest.mark.slow
def test_quick_from_end_to_end_on_tiny_data(run_main, toy_folder, tmp_path, monkeypatch):
    study = script("optimizers")
    monkeypatch.setattr(study, "OPTIMIZERS", ["adam"])
    out_folder = tmp_path / "out"
    status, out, _ = run_main(study.main, "--quick", "--lesson", "mlp", "--data", toy_folder, "--out", out_folder)
    assert status == 0
    assert "optimizers.png" in out
    assert out.count("QUICK") == 2
    assert "QUICK" in (out_folder / "README.md").read_text()
    assert set(json.loads((out_folder / "results.json").read_text())["final"]) == {"adam", "sgd, momentum 0.9"}


def results_of(**correct):
    """Fresh runs that ended with so many of 10,000 test images right."""
    final = {label: {"test_correct": [[0, count] for count in counts]} for label, counts in correct.items()}
    seeds = len(next(iter(correct.values())))
    return {"data": {"test": 10_000}, "config": {"final_seeds": list(range(seeds))}, "final": final}


def test_verdict_text():
    verdict = script("optimizers").verdict
    assert verdict(results_of(a=[9800, 9810, 9820], b=[9000, 9011, 9019])) == [
        "Shown to be better: a than b by 8.00 points [7.97, 8.03].",
        "The best is among: a. No other is shown to be better than one of these.",
        "All 1 pair compared; 3 seeds, paired, on these test images; simultaneous 95 % intervals (Bonferroni).",
    ]
    assert verdict(results_of(a=[9700, 9850], b=[9800, 9810]))[0] == (
        "None is shown to be better than another; the largest difference is b than a by 0.30 points [-8.59, 9.19]."
    )


def test_difference_shown_by_one_pair_is_not_shown_among_many():
    pair = {"a": [9800, 9810, 9820], "b": [9770, 9785, 9800]}
    verdict = script("optimizers").verdict
    assert verdict(results_of(**pair))[0].startswith("Shown to be better: a than b")
    others = {name: [9760, 9800, 9840] for name in "cdefgh"}
    assert "Shown" not in verdict(results_of(**pair, **others))[0]


@pytest.mark.parametrize("spread", [4, 8])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_at_most_5_percent_of_studies_of_equal_optimizers_claim_a_winner(seeds, spread):
    """Whatever the number of seeds, and of images by which runs differ: two seeds' differences are often equal.

    Correcting only the best one's 7 pairs, as if it had not been chosen, makes 8 to 12 % false claims.
    """
    rng, studies = np.random.default_rng(seeds), 400
    verdict = script("optimizers").verdict
    counts = np.rint(rng.normal(9_820, spread, (studies, 8, seeds))).astype(int).tolist()
    claims = sum("Shown" in verdict(results_of(**dict(zip("abcdefgh", study, strict=True))))[0] for study in counts)
    assert claims <= binom.ppf(0.99, studies, 0.05)
