"""Whatever happens to a process that trains, nothing is lost."""

import contextlib
import json
import math
import os
import random
import shlex
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT, end_of_training, toy_digits, write_idx_folder

from mnist_jax.cli.terminal import runnable

pytestmark = pytest.mark.slow
TRAIN = [sys.executable, "-m", "mnist_jax", "train", "adam", "--hidden", "16", "--epochs", "4"]


def command(toy_folder, out, *more):
    return [*TRAIN, "--data", str(toy_folder), "--out", str(out), *map(str, more)]


def run(arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The data, the end of a run that nothing disturbed, and the seconds it took when all was compiled."""

    root = tmp_path_factory.mktemp("uninterrupted")
    toy_folder = write_idx_folder(root / "toy", toy_digits(72), toy_digits(20, seed=1))
    for number in range(2):
        began = time.monotonic()
        done = run(command(toy_folder, root / f"run{number}"))
        seconds = time.monotonic() - began
        assert (done.returncode, done.stderr) == (0, "")
    return toy_folder, end_of_training(root / "run1"), seconds


@pytest.mark.parametrize("attempt", range(int(os.environ.get("MNIST_JAX_KILLS", "20"))))
def test_killed_run_resumes_to_identical_results(uninterrupted, tmp_path, attempt):
    toy_folder, expected, seconds = uninterrupted
    arguments = command(toy_folder, tmp_path / "run")
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Half of them while it trains and saves, which it does in the second half of its time.
    rng = random.Random(attempt)
    time.sleep(seconds * (rng.uniform(0.5, 1) if attempt % 2 else rng.random()))
    process.kill()
    process.wait()
    if (tmp_path / "run" / "runs.jsonl").exists():
        arguments.append("--resume")
    done = run(arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert end_of_training(tmp_path / "run") == expected


# Four side by side on one device, in groups some of which are filled up. Of SGD's learning rates, from 0.01 to 10,000,
# the higher ones diverge.
COMPARE = ["--optimizers", "adagrad", "noisy_sgd schedule=constant value=1000", "--lesson", "relu", "--trials", "4"]
COMPARE += ["--final-seeds", "5", "--epochs", "15", "--side-by-side", "4"]
ONE_DEVICE = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}


def comparison(toy_folder, out, *more):
    script = str(ROOT / "experiments" / "optimizers.py")
    return [sys.executable, script, "--data", str(toy_folder), "--out", str(out), *COMPARE, *more]


def without_seconds(tree):
    """The same, without the digests of what has seconds in it too."""
    if isinstance(tree, dict):
        return {key: without_seconds(value) for key, value in tree.items() if "seconds" not in key and key != "digest"}
    return [without_seconds(value) for value in tree] if isinstance(tree, list) else tree


def compared(folder):
    """The results of a comparison and each of its runs, without seconds."""
    results = json.loads((folder / "results.json").read_text())
    runs = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    del runs[0]["config"]["command"]  # which names the folder
    return without_seconds([results["nets"], runs])


def killed(arguments, folder, count=math.inf, delay=0.0):
    """Run a command, and kill it some time after it had some checkpoints; returns the number that it had."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ONE_DEVICE)
    seen = set()
    while len(seen) < count and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # of Python 3.11, where a folder goes while it is looked into
            seen.update(folder.glob("checkpoints/*/[0-9]*"))
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.wait()
    return len(seen)


@pytest.fixture(scope="module")
def uninterrupted_comparison(tmp_path_factory):
    """The data, the end of a comparison that nothing disturbed, and how many checkpoints it made."""

    root = tmp_path_factory.mktemp("comparison")
    toy_folder = write_idx_folder(root / "toy", toy_digits(72), toy_digits(20, seed=1))
    count = killed(comparison(toy_folder, root / "run"), root / "run")
    expected = compared(root / "run")
    assert {run["diverged"] for run in expected[-1][1:] if run["stage"] == "trials"} == {False, True}
    return toy_folder, expected, count


@pytest.mark.parametrize("attempt", range(int(os.environ.get("MNIST_JAX_KILLS", "3"))))
def test_killed_comparison_resumes_to_identical_results(uninterrupted_comparison, tmp_path, attempt):
    toy_folder, expected, count = uninterrupted_comparison
    arguments = comparison(toy_folder, tmp_path / "run")
    rng = random.Random(attempt)
    killed(arguments, tmp_path / "run", rng.randrange(count), rng.uniform(0, 0.1))
    if (tmp_path / "run" / "runs.jsonl").exists():
        arguments.append("--resume")
    done = run(arguments, env=ONE_DEVICE)
    assert (done.returncode, done.stderr) == (0, "")
    assert compared(tmp_path / "run") == expected
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_ends_within_two_seconds_with_resume_advice(uninterrupted, tmp_path, number, status):
    toy_folder, expected, _ = uninterrupted
    process = subprocess.Popen(
        command(toy_folder, tmp_path / "run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "epoch  1" in process.stdout.readline()
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 2
    assert process.returncode == status
    typed = shlex.join(command(toy_folder, tmp_path / "run")).removeprefix(f"{sys.executable} -m mnist_jax")
    assert err == f"interrupted; `{runnable('mnist-jax' + typed)} --resume` continues\n"
    done = run(command(toy_folder, tmp_path / "run", "--resume"))
    assert (done.returncode, done.stderr) == (0, "")
    assert end_of_training(tmp_path / "run") == expected


def test_interrupted_ladder_resumes_to_identical_results(uninterrupted, tmp_path):
    """Two lessons at a time, of three; stopped when one has ended."""
    script, digits = str(ROOT / "experiments" / "ladder.py"), str(uninterrupted[0])
    ladder = [sys.executable, script, "--lessons", "mlp", "relu", "adam", "--epochs", "3", "--data", digits, "--out"]
    two_devices = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run([*ladder, str(whole)], env=two_devices).returncode == 0
    process = subprocess.Popen([*ladder, str(parts)], stdout=subprocess.PIPE, text=True, env=two_devices)
    assert any("epoch  3" in line for line in process.stdout)
    began = time.monotonic()
    process.terminate()
    process.communicate(timeout=60)
    assert time.monotonic() - began < 2
    assert process.returncode == 143
    done = run([*ladder, str(parts), "--resume"], env=two_devices)
    assert (done.returncode, done.stderr) == (0, "")
    expected, found = [json.loads((folder / "results.json").read_text()) for folder in (whole, parts)]
    assert found["environment"]["lessons_at_a_time"] == 2
    assert without_seconds(found["lessons"]) == without_seconds(expected["lessons"])


def test_full_disk_keeps_earlier_checkpoints(uninterrupted, tmp_path):
    toy_folder, expected, _ = uninterrupted
    run_folder = tmp_path / "run"
    with subprocess.Popen(command(toy_folder, run_folder), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "epoch  2" in line:
                process.kill()
    # No file may grow beyond 4 KB: the journal still opens, a checkpoint does not fit.
    limited = run(["bash", "-c", f"ulimit -f 4; exec {shlex.join(command(toy_folder, run_folder, '--resume'))}"])
    assert limited.returncode == 2, limited
    assert "A checkpoint cannot be written" in limited.stderr
    assert limited.stderr.count("\n") == 1
    done = run(command(toy_folder, run_folder, "--resume"))
    assert (done.returncode, done.stderr) == (0, "")
    assert end_of_training(run_folder) == expected


def test_second_process_on_the_same_run_is_refused(uninterrupted, tmp_path):
    toy_folder, _, _ = uninterrupted
    first = subprocess.Popen(
        command(toy_folder, tmp_path / "run", "--epochs", 2000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "epoch  1" in first.stdout.readline()
        second = run(command(toy_folder, tmp_path / "run", "--epochs", 2000, "--resume"))
    finally:
        first.kill()
        first.communicate()
    assert second.returncode == 2
    assert "Another process is at work" in second.stderr


@pytest.mark.parametrize(
    "variables", [{"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}, {"HOME": "/nonexistent"}, {"HOME": ""}], ids=str
)
def test_training_works_in_a_minimal_environment(uninterrupted, tmp_path, variables):
    toy_folder, expected, _ = uninterrupted
    environment = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "TFDS_DATA_DIR")}
    done = run(command(toy_folder, tmp_path / "run"), env={**environment, **variables})
    assert (done.returncode, done.stderr) == (0, "")
    assert end_of_training(tmp_path / "run") == expected


def test_closed_or_full_output_ends_quietly_and_run_can_be_resumed(uninterrupted, tmp_path):
    toy_folder, expected, _ = uninterrupted
    for number, redirect in enumerate(("| head -c 1", "> /dev/full")):
        out = tmp_path / f"run{number}"
        line = shlex.join(command(toy_folder, out))
        done = run(["bash", "-c", f"set -o pipefail; {line} {redirect}"])
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        done = run(command(toy_folder, out, *(["--resume"] if out.exists() else [])))
        assert (done.returncode, done.stderr) == (0, "")
        assert end_of_training(out) == expected


MEMORY = """
import dataclasses, resource, sys
from pathlib import Path
from mnist_jax import LESSONS
from mnist_jax.data import load
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.loop import train_runs
from mnist_jax.runs.records import Run
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
data = dataclasses.replace(load(sys.argv[1]), epoch_length=320)
epochs = int(sys.argv[3])
kept = Checkpoints(Path(sys.argv[2]))
runs = [Run(seed) for seed in range(int(sys.argv[4]))]
for done, epoch in enumerate(train_runs(LESSONS["adam"], data, runs, epochs=epochs, checkpoints=kept)):
    if done == epochs * len(runs) // 4:
        early = peak()
print(peak() - early)
"""


@pytest.mark.parametrize(("epochs", "replicas"), [(200, 1), (2, 100)])
def test_memory_does_not_grow_with_epochs_and_replicas(epochs, replicas, tmp_path):
    # On the sample, of which an epoch would be 55,000 examples: here it is shorter.
    done = run([sys.executable, "-c", MEMORY, "sample", str(tmp_path), str(epochs), str(replicas)])
    assert float(done.stdout) < 32, done  # MB, in the last three quarters
