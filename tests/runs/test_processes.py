"""Two real processes on loopback, joined by `jax.distributed`."""

import json
import os
import socket
import subprocess
import sys

import pytest
from helpers import ROOT

from mnist_jax import UserError
from mnist_jax.runs import processes

EXPERIMENTS = ROOT / "experiments"


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def start_two(*arguments, different=()):
    """Run a script in two processes of two devices each; (status, stdout, stderr) of each.

    `different` are further arguments of the second.
    """
    address = free_address()
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments), "--distributed", *(map(str, different) if number else ())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "JAX_NUM_CPU_DEVICES": "2",
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
            },
        )
        for number in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=100) for process in started]
        # Gloo, JAX's communication between CPUs, reports on its own behalf.
        plain = ["".join(line for line in out.splitlines(True) if "peer ranks" not in line) for out, _ in outputs]
        return [(process.returncode, out, err) for process, out, (_, err) in zip(started, plain, outputs, strict=True)]
    finally:
        for process in started:
            process.kill()


def run_alone(*arguments):
    subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True, timeout=100)


def without_seconds(results):
    """The part of the results that must not depend on which process computed it."""
    if isinstance(results, dict):
        kept = {"seconds", "seconds_per_epoch", "command", "seconds_to", "processes"}
        return {key: without_seconds(value) for key, value in results.items() if key not in kept}
    return [without_seconds(value) for value in results] if isinstance(results, list) else results


@pytest.mark.slow
def test_two_processes_give_the_ladder_of_one(toy_folder, tmp_path):
    arguments = [EXPERIMENTS / "ladder.py", "--lessons", "mlp", "adam", "--seeds", 5, "--epochs", 2]
    arguments += ["--data", toy_folder]
    two, one = tmp_path / "two", tmp_path / "one"
    (first, second) = start_two(*arguments, "--out", two, "--tensorboard")
    assert first[0] == second[0] == 0, (first, second)
    assert "seed 4  epoch  2" in first[1]
    assert second[1:] == ("", "")
    assert sorted(path.name for path in two.iterdir()) == [
        "README.md", "checkpoints", "ladder.png", "results.json", "runs.jsonl", "tensorboard",
    ]  # fmt: skip
    files = [path.relative_to(two / "tensorboard") for path in (two / "tensorboard").rglob("*") if path.is_file()]
    assert len(files) == len({path.parent for path in files}) == 2 * 5  # of the first process only
    run_alone(*arguments, "--out", one)
    assert without_seconds(json.loads((two / "results.json").read_text())) == without_seconds(
        json.loads((one / "results.json").read_text())
    )


JOURNAL_TO_THREE = """
import sys
from pathlib import Path
import jax
from mnist_jax.runs import processes
from mnist_jax.runs.journal import open_study
processes.join()
resume = sys.argv[2] == "--resume"
environment = {"mnist_jax": "0.1", "commit": str(jax.process_index()), "dirty": True}
header = {"study": "x", "config": {}, "environment": environment}
folder, journal = open_study(Path(sys.argv[1]), "study", header, resume=resume)
assert journal.header == {**header, "environment": {**environment, "commit": "0"}}, journal.header
with journal:
    for number in range(len(list(journal)), 3):
        journal.add({"number": number})
print([entry["number"] for entry in journal])
"""


@pytest.mark.slow
def test_two_processes_share_one_journal_and_resume_it(tmp_path):
    out = tmp_path / "study"
    for option in ("--new", "--resume"):
        for status, printed, err in start_two("-c", JOURNAL_TO_THREE, out, option):
            assert (status, printed, err) == (0, "[0, 1, 2]\n", "")
    lines = (out / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines[1:]] == [0, 1, 2]
    (out / "runs.jsonl").write_text("".join(line + "\n" for line in lines[:2]))
    for status, printed, _ in start_two("-c", JOURNAL_TO_THREE, out, "--resume"):
        assert (status, printed) == (0, "[0, 1, 2]\n")
    assert (out / "runs.jsonl").read_text().splitlines() == lines


@pytest.mark.slow
def test_an_error_of_the_first_process_ends_both(toy_folder, tmp_path):
    (tmp_path / "results.json").touch()
    for status, out, err in start_two(EXPERIMENTS / "ladder.py", "--data", toy_folder, "--out", tmp_path):
        assert (status, out) == (2, "")
        assert err == f"error: {tmp_path} already holds a run; choose another folder with --out.\n"


@pytest.mark.slow
def test_an_error_of_the_second_process_ends_both(toy_folder, tmp_path):
    (first, second) = start_two(
        EXPERIMENTS / "ladder.py", "--data", toy_folder, "--out", tmp_path, different=["--data", tmp_path / "nothing"]
    )
    assert first[0] == second[0] == 2
    assert first[2] == "error: Process 1 ended with an error; its output says which.\n"
    assert second[2].startswith(f"error: {tmp_path / 'nothing'} is neither a file nor a folder")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("different", "says"),
    [
        (["--lessons", "relu"], "This process was started with other arguments than process 0 ("),
        (
            ["--tensorboard"],
            "The processes were started with different arguments; give --tensorboard to all of them or to none.",
        ),
    ],
)
def test_different_arguments_are_refused(toy_folder, tmp_path, different, says):
    arguments = [EXPERIMENTS / "ladder.py", "--data", toy_folder, "--out", tmp_path / "out", "--lessons", "mlp"]
    (first, second) = start_two(*arguments, different=different)
    assert first[0] == second[0] == 2
    assert second[2].startswith(f"error: {says}")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_different_digits_are_refused(toy_folder, tmp_path):
    (first, second) = start_two(
        EXPERIMENTS / "ladder.py", "--data", toy_folder, "--out", tmp_path, different=["--data", "sample"]
    )
    assert first[0] == second[0] == 2
    assert second[2].startswith("error: This process found other digits than the first one")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "other processes were not found"),
        ({"JAX_COORDINATOR_ADDRESS": "nonsense"}, "must be HOST:PORT"),
        ({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be a whole"),
        ({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "2"}, "other processes were not found"),
    ],
)
def test_unreachable_processes_are_reported(monkeypatch, variables, says):
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=says):
        processes.join()


@pytest.mark.parametrize(
    ("address", "listens"), [("127.0.0.1:9", "127.0.0.1:9"), ("localhost:9", "localhost:9"), ("10.0.0.1:9", None)]
)
def test_a_coordinator_on_loopback_listens_there_only(monkeypatch, address, listens):
    given = {}
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", address)
    monkeypatch.setattr("jax.distributed.initialize", lambda **options: given.update(options))
    processes.join()
    assert given["coordinator_bind_address"] == listens


def test_one_process_is_the_first():
    assert processes.is_first()
    assert processes.from_first(lambda: [1]) == [1]
    assert processes.in_all(lambda: (1,)) == (1,)


@pytest.mark.slow
def test_two_processes_compare_optimizers(toy_folder, tmp_path):
    """Their hyperparameters are traced values in all processes."""
    arguments = ["--lesson", "mlp", "--epochs", 1, "--trials", 2, "--final-seeds", 2, "--optimizers", "adagrad", "yogi"]
    study = EXPERIMENTS / "optimizers.py", "--data", toy_folder, *arguments
    for status, _, err in start_two(*study, "--out", tmp_path / "two"):
        assert (status, err) == (0, "")
    assert len((tmp_path / "two" / "runs.jsonl").read_text().splitlines()) == 1 + 2 * (3 + 3 + 2)
