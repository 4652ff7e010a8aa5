import json

import numpy as np
import pytest
from helpers import ROOT, script
from helpers.command_lines import message
from scipy.stats import binom

from mnist_jax import UserError


def test_every_optimizer_appears_once_plus_sgd_with_momentum():
    study = script("optimizers")
    made = study.contestants(study.Arguments().optimizers, (0.01, 0.1))
    names = ["sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "nadam"]
    assert [entrant.label for entrant in made] == [*names, "sgd, momentum 0.9"]
    assert {entrant.learning_rates for entrant in made} == {(0.01, 0.1)}


@pytest.fixture
def contestants_of(run_main, toy_folder, tmp_path, monkeypatch):
    """What would be compared with these arguments, as results.json and a study that is resumed have it."""
    described = {}

    def not_begun(what, *_, **__):
        described.update(what)
        raise UserError("Enough.")

    monkeypatch.setattr("mnist_jax.cli.comparison.begin_study", not_begun)

    def contestants_of(*line):
        status, _, err = run_main(script("optimizers").main, "--data", toy_folder, "--out", tmp_path / "out", *line)
        assert (status, err) == (2, "error: Enough.\n")
        return json.loads(json.dumps(described["config"]["contestants"]))

    return contestants_of


def test_the_recorded_study_is_still_the_same_study(contestants_of):
    recorded = json.loads((ROOT / "experiments" / "results" / "optimizers" / "results.json").read_text())
    assert contestants_of("--rates", 9) == recorded["config"]["contestants"]


SAID = ["contrib.muon", "sgd momentum=0.9 schedule=cosine alpha=0.1", "adam chain=clip_by_global_norm 1"]
LABELS = ["contrib.muon", "sgd, momentum 0.9, cosine_decay, alpha 0.1", "clip_by_global_norm, max_norm 1, then adam"]


def test_a_study_is_known_by_all_that_is_said_of_its_optimizers(contestants_of):
    found = contestants_of("--optimizers", *SAID)
    assert [entrant["label"] for entrant in found] == LABELS
    muon, sgd, adam = (entrant["optimizer"] for entrant in found)
    assert muon == {"name": "contrib.muon", "learning_rate": 1e-5, "hyperparameters": []}
    assert sgd == {
        "name": "sgd",
        "learning_rate": 1e-5,
        "hyperparameters": [["momentum", 0.9]],
        "schedule": {"name": "cosine_decay", "numbers": [["alpha", 0.1]], "steps": None, "epochs": None},
    }
    assert adam == {
        "name": "adam",
        "learning_rate": 1e-5,
        "hyperparameters": [],
        "chain": [{"name": "clip_by_global_norm", "arguments": [["max_norm", 1.0]]}],
    }


@pytest.mark.slow
def test_any_optimizers_can_be_compared(run_main, toy_folder, tmp_path):
    main, out = script("optimizers").main, tmp_path / "out"
    line = ["--lesson", "mlp", "--data", toy_folder, "--rates", 2, "--epochs", 1, "--final-seeds", 2, "--out", out]
    assert run_main(main, *line, "--optimizers", *SAID)[0] == 0
    results = json.loads((out / "results.json").read_text())
    assert list(results["final"]) == list(results["tuning"]) == LABELS
    assert all(f"| {label} |" in (out / "README.md").read_text() for label in LABELS)
    status, _, err = run_main(main, *line, "--optimizers", *SAID[:2], "adam chain=clip_by_global_norm 2", "--resume")
    assert status == 2
    assert "config.contestants" in message(err)


@pytest.mark.parametrize(
    ("optimizers", "says"),
    [
        ([], "at least two different optimizers, not none"),
        (["adam"], "at least two different optimizers, not adam"),
        (["sgd momentum=0.9", "adam", "sgd momentum 0.9"], "not sgd, momentum 0.9; adam; sgd, momentum 0.9"),
        (["adam", "adman"], "Unknown optimizer 'adman'"),
        (["adam", "adam b1"], "'b1' is not"),
        (["adam", "adam schedule=warmup_cosine warmup_epochs=10"], "does not fit a run of 3 steps"),
        (["adam", "nowhere:made"], "No module named 'nowhere'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_training(run_main, toy_folder, tmp_path, optimizers, says):
    line = ["--data", toy_folder, "--epochs", 1, "--out", tmp_path / "out", "--optimizers", *optimizers]
    status, out, err = run_main(script("optimizers").main, *line)
    assert (status, "epoch" in out) == (2, False)
    assert says in message(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_quick_from_end_to_end_on_tiny_data(run_main, toy_folder, tmp_path):
    out_folder = tmp_path / "out"
    line = ["--quick", "--lesson", "mlp", "--data", toy_folder, "--out", out_folder]
    status, out, _ = run_main(script("optimizers").main, *line, "--optimizers", "adam", "sgd momentum=0.9")
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
