"""Studies from the command line: their names, and their files while they are under way."""

import json
import shlex
import sys
import threading
import time
from pathlib import Path

import jax
import pytest
from helpers import script

from mnist_jax import LESSONS, UserError
from mnist_jax.cli import commands
from mnist_jax.cli.study import how_to_continue
from mnist_jax.cli.terminal import EpochProgress, runnable
from mnist_jax.runs.checkpoints import last_checkpoint
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.records import Epoch


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


def test_results_are_written_after_each_lesson(run_main, toy_folder, tmp_path, monkeypatch, one_device):
    one_device()
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


def trained(folder):
    """Each lesson's curves without seconds, and the arrays of its last checkpoints, those of all seeds in one."""
    found = {}
    for lesson_id, entry in json.loads((folder / "results.json").read_text())["lessons"].items():
        groups = [last_checkpoint(kept).arrays for kept in sorted((folder / "checkpoints" / lesson_id).iterdir())]
        arrays = {name: b"".join(group[name].tobytes() for group in groups) for name in groups[0]}
        found[lesson_id] = arrays, {name: values for name, values in entry.items() if name != "seconds"}
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "at_a_time"), [(1, {2: 2, 4: 4}), (2, {2: 1, 4: 2})])
def test_lessons_at_a_time_match_one_after_another(run_main, toy_folder, tmp_path, monkeypatch, seeds, at_a_time):
    for devices in (1, *at_a_time):
        some = jax.local_devices()[:devices]
        with monkeypatch.context() as patch:
            patch.setattr(jax, "devices", lambda: some)  # noqa: B023
            arguments = ["--data", toy_folder, "--epochs", 2, "--seeds", seeds, "--out", tmp_path / str(devices)]
            assert run_main(script("ladder").main, *arguments)[0] == 0
    for devices, count in at_a_time.items():
        found = json.loads((tmp_path / str(devices) / "results.json").read_text())
        assert found["environment"]["lessons_at_a_time"] == count
        assert list(found["lessons"]) == list(LESSONS)
        assert trained(tmp_path / str(devices)) == trained(tmp_path / "1")


def test_lessons_stand_in_the_course_s_order_whichever_ends_first(run_main, toy_folder, tmp_path, monkeypatch):
    ended = threading.Event()

    def train(lesson, data, runs, **_):
        if lesson == LESSONS["mlp"]:
            assert ended.wait(10)
        yield Epoch(runs[0], 1, 1.0, 1.0, 5, 1, 1.0)
        ended.set()

    monkeypatch.setattr("mnist_jax.cli.study.train_runs", train)
    arguments = ["--lessons", "mlp", "dropout", "--epochs", 1, "--data", toy_folder, "--out", tmp_path / "out"]
    status, out, _ = run_main(script("ladder").main, *arguments)
    assert status == 0
    assert out.index("dropout") < out.index("mlp")
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["lessons"]) == ["mlp", "dropout"]


def test_an_error_in_one_of_two_lessons_ends_both(run_main, toy_folder, tmp_path, monkeypatch):
    def train(lesson, data, runs, **_):
        if lesson == LESSONS["mlp"]:
            raise UserError("A checkpoint cannot be written.")
        for number in range(1, 101):
            time.sleep(0.05)
            yield Epoch(runs[0], number, 1.0, 1.0, 5, 1, 1.0)

    monkeypatch.setattr("mnist_jax.cli.study.train_runs", train)
    arguments = ["--lessons", "mlp", "dropout", "--epochs", 100, "--data", toy_folder, "--out", tmp_path / "out"]
    status, out, err = run_main(script("ladder").main, *arguments)
    assert (status, err) == (2, "error: A checkpoint cannot be written.\n")
    assert out.count("dropout") <= 1


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
@pytest.mark.parametrize("typed", ["", " --out {}", " --out={}"])
def test_advice_on_resuming_can_be_pasted(name, typed, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    command = "python experiments/ladder.py --seeds 3" + typed.format(shlex.quote(f"runs/{name}"))
    advice = how_to_continue(Path("runs") / name, {"config": {"command": command}})
    words = shlex.split(advice.removeprefix("`").removesuffix("` continues"))
    out = [f"--out=runs/{name}"] if "=" in typed else ["--out", f"runs/{name}"]
    assert words == ["python", "experiments/ladder.py", "--seeds", "3", *out, "--resume"]


@pytest.mark.parametrize("program", ["python", "mnist-jax"])
def test_commands_are_shown_as_the_shell_finds_them(program, tmp_path, monkeypatch):
    """By name where our environment is activated; else by path, from the current folder where it lies in that."""
    folder = tmp_path / "my venv" / "bin"
    folder.mkdir(parents=True)
    for file in (folder / program, tmp_path / program):
        file.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    command = f"{program} report x"
    for paths, here, shown in (
        (folder, tmp_path, command),
        (tmp_path, tmp_path, f"'my venv/bin/{program}' report x"),
        (tmp_path, Path.cwd(), f"'{folder}/{program}' report x"),
    ):
        monkeypatch.setenv("PATH", str(paths))
        monkeypatch.chdir(here)
        assert shlex.split(runnable(command)) == shlex.split(shown)
    (folder / program).unlink()  # as where a system names it otherwise
    assert runnable(command) == command
