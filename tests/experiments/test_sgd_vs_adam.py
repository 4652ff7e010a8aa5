import json

import pytest
from helpers import QUICK_ENOUGH, script
from helpers.command_lines import message

from mnist_jax.runs.journal import JOURNAL
from mnist_jax.runs.records import unpack_bits
from mnist_jax.studies.spaces import SPACES


def test_from_end_to_end_on_tiny_data(run_main, toy_folder, tmp_path):
    arguments = ["--data", toy_folder, "--out", tmp_path / "out", *QUICK_ENOUGH]
    status, out, _ = run_main(script("sgd_vs_adam").main, *arguments)
    assert status == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    config = results["config"]
    assert config["spaces"] == json.loads(json.dumps({name: SPACES[name].to_json() for name in ("sgd", "adam")}))
    assert config["seeds"] == {"trials": 0, "confirmation": [1000, 1001, 1002], "finals": [2000, 2001]}
    assert {name: config[name] for name in ("trials", "epochs", "test_every", "steps_per_epoch", "quick")} == {
        "trials": 2, "epochs": 2, "test_every": 250, "steps_per_epoch": 3, "quick": False,
    }  # fmt: skip
    assert (config["confidence"], config["margin"]) == (0.95, None)  # these digits are not known
    assert list(config["lessons"]) == list(results["nets"]) == ["mlp"]
    runs = 0
    for name, entry in results["nets"]["mlp"].items():
        assert [trial["settings"] for trial in entry["trials"]] == SPACES[name].trials("not known by name", "mlp", 2)
        assert [trial["seed"] for trial in entry["trials"]] == [0, 1, 2]
        finals = [entry[key] for key in ("final", "course") if key in entry]
        assert len(finals) == 1 + (entry["chosen"] != 0)
        for final in finals:
            assert final["seeds"] == [2000, 2001]
            rights = [unpack_bits(bits, 20).sum() for bits in final["right"]]
            assert rights == [run[-1] for run in final["test_correct"]]
        runs += 3 + 3 + 2 * len(finals)
    for found in results["mechanism"].values():
        assert list(found["layers"]) == ["fc1", "fc2", "fc3"]
        assert len(found["layers"]["fc1"]["gradient"]) == len(found["steps"])
        assert found["steps"][-1] == 6
    assert results["verdict"]
    assert all(sentence in " ".join(out.split()) for sentence in results["verdict"])
    table = (tmp_path / "out" / "README.md").read_text()
    assert "QUICK" not in table + out
    # Of each run a line, at its end.
    assert (out.count("  epoch  1  "), out.count("  epoch  2  ")) == (0, runs)
    # Again: nothing is trained, and the results are the same.
    journal = (tmp_path / "out" / JOURNAL).read_bytes()
    assert run_main(script("sgd_vs_adam").main, *arguments, "--resume")[0] == 0
    assert (tmp_path / "out" / JOURNAL).read_bytes() == journal
    assert (tmp_path / "out" / "README.md").read_text() == table
    assert json.loads((tmp_path / "out" / "results.json").read_text())["nets"] == results["nets"]
    # Another study in the same folder is refused.
    for option, value, says in (
        ("epochs", 3, "2, not 3"),
        ("side-by-side", 2, "None, not 2"),
        ("trials", 4, "2, not 4"),
    ):
        status, _, err = run_main(script("sgd_vs_adam").main, *arguments, f"--{option}", value, "--resume")
        assert (status, err.count("\n")) == (2, 1)
        assert f"config.{option.replace('-', '_')} is {says}" in err


@pytest.mark.slow
def test_quick_from_end_to_end_on_tiny_data(run_main, toy_folder, tmp_path):
    out_folder = tmp_path / "out"
    status, out, _ = run_main(script("sgd_vs_adam").main, "--quick", "--data", toy_folder, "--out", out_folder)
    assert status == 0
    assert out.count("QUICK") == 2
    assert "QUICK" in (out_folder / "README.md").read_text()
    results = json.loads((out_folder / "results.json").read_text())
    assert list(results["nets"]) == ["mlp", "he"]
    assert {len(entry["trials"]) for found in results["nets"].values() for entry in found.values()} == {5}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--optimizers", "sgd"], "two different optimizers"),
        (["--optimizers", "adam", "adam"], "two different optimizers"),
        (["--optimizers", "sgd", "adman"], "'adman'"),
        (["--lessons", "cnn"], "'cnn'"),
        (["--lessons", "he", "he"], "each once, not he he"),
        (["--lessons"], "at least one lesson"),
        (["--out", "x" * 300], "cannot be written"),
        (["--trials", "12"], "power of 2"),
        (["--trials", "1000000000"], "power of 2"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--final-seeds", "1"], "seeds"),
        (["--side-by-side", "0"], "at a time"),
        (["--checkpoint-every", "0"], "at least 1"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(run_main, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(script("sgd_vs_adam").main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert says in message(err)
    assert not (tmp_path / "out").exists()
