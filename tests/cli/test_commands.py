import json
import os
import subprocess
import sys
import time

import pytest
import requests
from helpers import ROOT

from mnist_jax import LESSONS, UserError
from mnist_jax.cli import commands as cli
from mnist_jax.runs.files import RESULTS, make_folder
from mnist_jax.runs.journal import JOURNAL
from mnist_jax.runs.provenance import environment


def test_lessons_lists_the_ladder(run_main):
    status, out, _ = run_main(cli.main, "lessons")
    assert status == 0
    for lesson_id in LESSONS:
        assert lesson_id in out
    assert "adam 0.01" in out


def test_train_writes_a_run(run_main, toy_folder, tmp_path):
    out_folder = tmp_path / "run"
    status, out, _ = run_main(
        cli.main, "train", "he", "--data", toy_folder, "--epochs", 2, "--seed", 7, "--out", out_folder,
        "--optimizer", "adam", "--learning-rate", 0.003, "--hyperparameters", "b1", 0.8, "--hidden", 16, 8,
        "--batch-size", 16, "--dropout-rate", 0.25, "--activation", "tanh", "--initialisation", "pytorch",
        "--no-batch-norm",
    )  # fmt: skip
    assert status == 0
    results = json.loads((out_folder / RESULTS).read_text())
    assert set(results) == {"study", "data", "config", "environment", "lessons"}
    assert results["study"] == "train"
    assert {"source", "split", "train", "validation", "test", "sha256"} <= set(results["data"])
    assert results["environment"] == {**environment(), "devices_per_run": 1, "lessons_at_a_time": 1}
    assert results["config"]["lessons"]["he"] == {
        "hidden": [16, 8],
        "activation": "tanh",
        "dropout_rate": 0.25,
        "batch_norm": False,
        "initialisation": "pytorch",
        "optimizer": {"name": "adam", "learning_rate": 0.003, "hyperparameters": [["b1", 0.8]]},
        "batch_size": 16,
        "dtype": "float32",
    }
    entry = results["lessons"]["he"]
    assert entry["seeds"] == [7]
    assert f"test accuracy {entry['test_correct'][0][-1] / 20:.2%}" in out
    assert "epoch  1" in out
    assert "left)" in out
    assert sorted(path.name for path in out_folder.iterdir()) == ["checkpoints", RESULTS, JOURNAL]


def test_checkpoints_are_those_that_the_user_asks_for(run_main, toy_folder, tmp_path):
    asked = ["--epochs", 7, "--checkpoint-every", 3, "--keep-checkpoints", 3, "--out", tmp_path / "run"]
    assert run_main(cli.main, "train", "mlp", "--data", toy_folder, "--hidden", 8, *asked)[0] == 0
    files = (tmp_path / "run" / "checkpoints").rglob("*.safetensors")
    assert sorted(int(path.name.split("-")[0]) for path in files) == [3, 6, 7]


def test_diverged_run_is_reported_and_recorded(run_main, toy_folder, tmp_path):
    status, out, _ = run_main(
        cli.main, "train", "relu", "--data", toy_folder, "--learning-rate", 1e30, "--out", tmp_path / "run"
    )
    assert status == 0
    assert "diverged: the loss became non-finite in epoch 1" in out
    assert json.loads((tmp_path / "run" / RESULTS).read_text())["lessons"]["relu"]["diverged"] == [True]


def test_unwritable_output_folder_is_refused_before_training(run_main, toy_folder, tmp_path):
    (tmp_path / "file").touch()
    status, out, err = run_main(cli.main, "train", "mlp", "--data", toy_folder, "--out", tmp_path / "file" / "run")
    assert status == 2
    assert "cannot be written" in err
    assert "epoch" not in out


def test_folder_holding_a_run_is_untouched(run_main, toy_folder, tmp_path):
    (tmp_path / RESULTS).write_text("precious")
    status, _, err = run_main(cli.main, "train", "mlp", "--data", toy_folder, "--out", tmp_path)
    assert status == 2
    assert "already holds a run" in err
    assert (tmp_path / RESULTS).read_text() == "precious"


def test_folder_of_an_unfinished_run_is_refused(run_main, toy_folder, tmp_path):
    claimed = make_folder(tmp_path / "run", "mlp", JOURNAL)
    status, _, err = run_main(cli.main, "train", "mlp", "--data", toy_folder, "--out", claimed)
    assert status == 2
    assert "already holds a run" in err


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_a_folder_whose_name_is_not_utf8_works(run_main, toy_folder, tmp_path, monkeypatch):
    picture = ROOT / "docs" / "seven.png"
    monkeypatch.chdir(tmp_path)
    run = "b\udcff"
    train = ["train", "mlp", "--data", toy_folder, "--epochs", 1, "--out", run]
    for command in (train, [*train, "--resume"], ["predict", run, picture], ["report", run]):
        status, _, err = run_main(cli.main, *command)
        assert (status, err) == (0, "")


def test_default_folders_of_the_same_second_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    assert [make_folder(None, "mlp", JOURNAL).name for _ in range(3)] == ["mlp-now", "mlp-now-2", "mlp-now-3"]


def test_overlong_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        make_folder(tmp_path / ("x" * 300), "mlp", JOURNAL)


def test_net_too_large_for_memory_is_refused_and_leaves_nothing(run_main, toy_folder, tmp_path, monkeypatch):
    for most in ("MOST_PARAMETERS", "MOST_ACTIVATIONS"):  # that a small machine has
        monkeypatch.setattr(f"mnist_jax.lessons.{most}", 2**63)
    status, _, err = run_main(
        cli.main, "train", "mlp", "--data", toy_folder, "--hidden", 10**8, "--out", tmp_path / "run"
    )
    assert status == 2
    assert "does not fit" in err
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_a_terminal_without_the_characters_gets_replacements(toy_folder, tmp_path):
    command = [sys.executable, "experiments/ladder.py", "--lessons", "mlp", "--seeds", "2", "--epochs", "1"]
    done = subprocess.run(
        [*command, "--data", str(toy_folder), "--out", str(tmp_path / "run")],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b" ? " in done.stdout


def test_no_traceback_from_the_command_itself():
    done = subprocess.run(
        [sys.executable, "-m", "mnist_jax", "train", "cnn"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Unrecognized options: cnn" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_lists_what_is_available(run_main, toy_folder):
    status, out, _ = run_main(cli.main, "data")
    assert status == 0
    assert "not prepared" in out
    assert "4,500" in out
    assert "yes, sample of MNIST" in out


def test_data_shows_what_a_path_was_taken_for(run_main, toy_folder):
    status, out, err = run_main(cli.main, "data", toy_folder)
    assert (status, err) == (0, "")
    shown = {cells[1].strip(): cells[2].strip() for line in out.splitlines() if len(cells := line.split("│")) == 4}
    assert [shown[what] for what in ("format", "name", "training images", "test images")] == [
        "IDX files", "not known by name", "72", "20",
    ]  # fmt: skip
    assert "0 (8, 2), 1 (8, 2), 2 (7, 2)" in shown["classes (training, test images)"]
    assert out.splitlines()[-1].split() == list("01234567")
    assert any("\u2800" < sign <= "\u28ff" for sign in out)


@pytest.mark.parametrize("path", ["sample", "nowhere"])
def test_only_tfds_sets_are_prepared(run_main, path):
    status, _, err = run_main(cli.main, "data", path, "--prepare")
    assert (status, "such as tfds:fashion_mnist" in err) == (2, True)


def test_data_names_the_corrupt_file(run_main, toy_folder):
    (toy_folder / "train-images-idx3-ubyte.gz").write_bytes(b"junk")
    status, _, err = run_main(cli.main, "data", toy_folder)
    assert status == 2
    assert "not an IDX file" in err


def test_data_prepare_without_network_gives_advice(run_main, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", fail)
    status, _, err = run_main(cli.main, "data", "--prepare", "--data-dir", tmp_path)
    assert status == 2
    assert "no network" in err


def test_missing_manual_folder_is_refused(run_main, tmp_path):
    status, _, err = run_main(cli.main, "data", "--prepare", "--data-dir", tmp_path, "--manual-dir", tmp_path / "no")
    assert status == 2
    assert "is not a folder; --manual-dir" in err


@pytest.mark.slow
def test_two_processes_prepare_the_same_data(mnist_folder, tmp_path):
    command = [sys.executable, "-m", "mnist_jax", "data", "--prepare"]
    command += ["--data-dir", str(tmp_path), "--manual-dir", str(mnist_folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, "")
        assert "60,000" in out
        assert "yes, MNIST" in out
