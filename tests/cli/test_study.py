"""Studies from the command line: what a study is called, and what is there while it is under way."""

import json
import shlex
from pathlib import Path

import pytest
from helpers import script

from mnist_jax import UserError
from mnist_jax.cli import commands
from mnist_jax.cli.study import how_to_continue
from mnist_jax.cli.terminal import EpochProgress
from mnist_jax.runs.devices import Placement


@pytest.mark.parametrize(
    ("main", "arguments", "name", "program"),
    [
        (commands.main, ["train", "mlp"], "mlp", "mnist-jax"),
        (script("ladder").main, ["--lessons", "mlp"], "ladder", "python experiments/ladder.py"),
    ],
    ids=["train", "ladder"],
)
def test_a_study_has_its_name_and_its_command(run_main, toy_folder, monkeypatch, main, arguments, name, program):
    found = []

    def stop(out, name, header, **_):
        found.append((name, header["config"]["command"]))
        raise UserError("enough")

    monkeypatch.setattr("mnist_jax.cli.study.open_study", stop)
    assert run_main(main, *arguments, "--data", toy_folder)[0] == 2
    assert found == [(name, f"{program} {' '.join(arguments)} --data {toy_folder}")]


def test_results_are_written_after_each_lesson(run_main, toy_folder, tmp_path, monkeypatch):
    show = EpochProgress.show

    def killed(self, label, *rest, **more):
        if label == "dropout":
            raise RuntimeError("killed")
        show(self, label, *rest, **more)

    monkeypatch.setattr(EpochProgress, "show", killed)
    arguments = ["--lessons", "mlp", "dropout", "--epochs", 1, "--data", toy_folder, "--out", tmp_path / "out"]
    with pytest.raises(RuntimeError, match="killed"):
        run_main(script("ladder").main, *arguments)
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["lessons"]) == ["mlp"]


@pytest.mark.parametrize(
    ("main", "arguments", "placement"),
    [
        (commands.main, ["train", "mlp", "--devices-per-run", 2], Placement(devices_per_run=2)),
        (script("sgd_vs_adam").main, ["--side-by-side", 3], Placement(side_by_side=3)),
    ],
    ids=["devices per run", "side by side"],
)
def test_runs_are_placed_as_the_user_says(run_main, toy_folder, tmp_path, monkeypatch, main, arguments, placement):
    found = []

    def stop(*_, placement, **rest):
        found.append(placement)
        raise UserError("enough")

    monkeypatch.setattr("mnist_jax.cli.study.train_runs", stop)
    assert run_main(main, *arguments, "--data", toy_folder, "--out", tmp_path / "out")[0] == 2
    assert found == [placement]


@pytest.mark.parametrize("name", ["run", "a b", "$HOME"])
def test_the_advice_on_how_to_continue_can_be_pasted(name):
    words = shlex.split(how_to_continue(Path("runs") / name))
    assert words[words.index("--out") + 1] == f"runs/{name}"
