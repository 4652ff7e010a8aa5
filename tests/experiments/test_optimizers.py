import json

import pytest
from helpers import script
from helpers.command_lines import message

from mnist_jax import UserError
from mnist_jax.studies.spaces import SPACES


@pytest.fixture
def spaces_of(run_main, toy_folder, tmp_path, monkeypatch):
    """The spaces that a comparison with these arguments would record, and be recognised by."""
    described = {}

    def not_begun(what, *_, **__):
        described.update(what)
        raise UserError("Enough.")

    monkeypatch.setattr("mnist_jax.cli.comparison.begin_study", not_begun)

    def spaces_of(*line):
        status, _, err = run_main(script("optimizers").main, "--data", toy_folder, "--out", tmp_path / "out", *line)
        assert (status, err) == (2, "error: Enough.\n")
        return json.loads(json.dumps(described["config"]["spaces"]))

    return spaces_of


def test_all_of_the_table_but_muon_is_compared(spaces_of):
    found = spaces_of()
    assert list(found) == [name for name in SPACES if name != "contrib.muon"]
    assert len(found) == 18
    assert found == json.loads(json.dumps({name: SPACES[name].to_json() for name in found}))


SAID = ["contrib.muon", "sgd momentum=0.9 schedule=cosine alpha=0.1", "adam chain=clip_by_global_norm 1", "rprop"]
LABELS = [
    "contrib.muon", "sgd, momentum 0.9, cosine_decay, alpha 0.1", "clip_by_global_norm, max_norm 1, then adam", "rprop",
]  # fmt: skip


def test_study_is_recognised_by_all_settings_of_its_optimizers(spaces_of):
    found = spaces_of("--optimizers", *SAID)
    assert list(found) == LABELS
    muon, sgd, adam, rprop = found.values()
    assert muon["optimizer"]["name"] == "contrib.muon"
    assert sgd["optimizer"] == {
        "name": "sgd",
        "learning_rate": 0.01,
        "hyperparameters": [["momentum", 0.9], ["nesterov", False]],
        "schedule": {"name": "cosine_decay", "numbers": [["alpha", 0.1]], "steps": None, "epochs": None},
    }
    assert [dimension.get("name", dimension.get("names")) for dimension in sgd["dimensions"]] == [
        ["learning_rate"], "nesterov",
    ]  # fmt: skip
    assert adam["optimizer"]["chain"] == [{"name": "clip_by_global_norm", "arguments": [["max_norm", 1.0]]}]
    assert rprop["dimensions"] == [{"names": ["learning_rate"], "low": 1e-5, "high": 10.0, "form": "value"}]


@pytest.mark.slow
def test_any_optimizers_can_be_compared(run_main, toy_folder, tmp_path):
    main, out = script("optimizers").main, tmp_path / "out"
    line = ["--lesson", "mlp", "--data", toy_folder, "--trials", 1, "--epochs", 1, "--final-seeds", 2, "--out", out]
    assert run_main(main, *line, "--optimizers", *SAID)[0] == 0
    results = json.loads((out / "results.json").read_text())
    assert list(results["nets"]["mlp"]) == LABELS
    assert "mechanism" not in results
    status, _, err = run_main(main, *line, "--optimizers", *SAID[:2], "adam chain=clip_by_global_norm 2", "--resume")
    assert status == 2
    assert "config.spaces" in message(err)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_every_space_can_be_searched(run_main, toy_folder, tmp_path, name):
    """Settings at the ends of ranges too, with and without a schedule: few, and not all of them, diverge."""
    other = "adagrad" if name != "adagrad" else "sgd"
    line = ["--lesson", "mlp", "--data", toy_folder, "--trials", 8, "--epochs", 2, "--final-seeds", 2]
    assert run_main(script("optimizers").main, *line, "--out", tmp_path / "out", "--optimizers", name, other)[0] == 0
    entry = json.loads((tmp_path / "out" / "results.json").read_text())["nets"]["mlp"][name]
    assert sum(trial["diverged"] for trial in entry["trials"]) < 5
    assert entry["final"]["diverged"] == [False, False]


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
def test_impossible_comparison_is_refused_before_training(run_main, toy_folder, tmp_path, optimizers, says):
    line = ["--data", toy_folder, "--epochs", 1, "--out", tmp_path / "out", "--optimizers", *optimizers]
    status, out, err = run_main(script("optimizers").main, *line)
    assert (status, "epoch" in out) == (2, False)
    assert says in message(err)
    assert not (tmp_path / "out").exists()
