import ast
import hashlib
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest
from helpers import NUMERICS, ROOT, ROUNDING, jax_setting

from mnist_jax import LESSONS
from mnist_jax.runs import provenance
from mnist_jax.runs.provenance import (
    command_line,
    describe_run,
    differences,
    environment,
    environment_changes,
    program,
)


@pytest.mark.parametrize("name", [*NUMERICS, *ROUNDING])
def test_recorded_settings_exist_in_jax(name):
    assert name in jax.config.values


def test_settings_are_recorded_of_any_jax():
    variables = {"XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE"}
    assert environment()["settings"].keys() == {*ROUNDING, *variables}


@pytest.mark.parametrize("name", NUMERICS)
def test_setting_that_changes_numbers_is_in_the_config(dataset, name):
    def described():
        return describe_run("train", dataset, LESSONS, command="")

    before = described()
    with jax_setting(name, NUMERICS[name]):
        assert [found[0] for found in differences(before, described())] == [f"config.jax.{name}"]


def test_study_name_is_recorded(dataset):
    assert describe_run("ladder", dataset, LESSONS, command="")["study"] == "ladder"


@pytest.mark.parametrize("name", ROUNDING)
def test_setting_that_may_change_rounding_is_in_the_environment(name):
    before, was = environment(), jax.config.values[name]
    with jax_setting(name, ROUNDING[name]):
        changes = environment_changes(before, environment())
    assert changes == [f"settings.{name} {ROUNDING[name]} instead of {was}"]


def test_environments_are_compared_except_for_program_and_python(monkeypatch):
    before = environment()
    variables = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
    for name in variables:
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(provenance, "version", lambda name: "0")
    monkeypatch.setattr(provenance, "processor", lambda: "abacus")
    monkeypatch.setattr(jax, "device_count", lambda: 64)
    monkeypatch.setattr(jax, "process_count", lambda: 8)
    device = types.SimpleNamespace(platform="gpu", device_kind="A", client=types.SimpleNamespace(platform_version="13"))
    monkeypatch.setattr(jax, "devices", lambda: [device])
    monkeypatch.setattr(provenance, "driver", lambda: "555.1")
    monkeypatch.setattr(provenance, "checkout", lambda root: {"commit": "5", "dirty": "?", "lock_sha256": "6"})
    provenance._own_checkout.cache_clear()
    monkeypatch.setattr("platform.python_version", lambda: "4.0")
    monkeypatch.setattr("platform.system", lambda: "AmigaOS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000)))
    changed = {change.split(" ")[0] for change in environment_changes(before, environment())}
    versions = {"jax", "jaxlib", "flax", "optax", "numpy"}
    devices = {"backend", "backend_version", "driver", "device", "devices", "processes", "processor", "system"}
    assert changed == versions | devices | {f"settings.{name}" for name in variables}
    found = environment()
    assert (found["mnist_jax"], found["commit"], found["lock_sha256"]) == ("0", "5", "6")
    others = {"mnist_jax", "commit", "dirty", "lock_sha256", "python", "cores", "settings"}
    assert found.keys() == versions | devices | others
    assert {name for name in found if found[name] == before[name]} == set()
    provenance._own_checkout.cache_clear()


def test_lessons_at_a_time_change_no_rounding():
    assert environment_changes({"lessons_at_a_time": 1}, {"lessons_at_a_time": 2}) == []


def test_missing_fields_of_old_records_are_no_change():
    now = environment()
    old = {name: now[name] for name in ("jax", "flax", "optax", "python", "backend", "device")}
    assert environment_changes(old, now) == environment_changes(now, old) == []
    assert environment_changes({**old, "settings": {"XLA_FLAGS": now["settings"]["XLA_FLAGS"]}}, now) == []
    assert environment_changes({**old, "jax": "0.1"}, now) == [f"jax {jax.__version__} instead of 0.1"]
    assert environment_changes({"settings": {"XLA_FLAGS": None}}, {"settings": {"XLA_FLAGS": "-x"}}) == [
        "settings.XLA_FLAGS -x instead of None"
    ]


def test_checkout_is_the_one_that_holds_the_package():
    lock = (ROOT / "requirements.lock").read_bytes()
    assert environment()["lock_sha256"] == hashlib.sha256(lock).hexdigest()


def test_git_is_asked_once_per_process_when_results_begin():
    code = """
import subprocess, sys
asked, run = [], subprocess.run
subprocess.run = lambda command, **options: asked.append(command) or run(command, **options)
import mnist_jax.cli.commands
from mnist_jax.runs.provenance import environment
assert not any("git" in words for words in asked), asked
first = environment()
assert first == environment()
print([words[4] for words in asked if "git" in words])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert ast.literal_eval(done.stdout) in (["rev-parse", "status"], ["rev-parse"])  # which fails without a commit


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54  Release\nGCC version:  12.2.0\n", "550.54"),
        ("", None),
        (None, None),
    ],
)
def test_driver_is_that_of_nvidia(monkeypatch, text, version):
    def read(path, **_):
        assert str(path) == "/proc/driver/nvidia/version"
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert provenance.driver() == version


def test_a_cpu_has_no_driver(monkeypatch):
    monkeypatch.setattr(provenance, "driver", lambda: "535.104.05")
    assert environment()["driver"] is None


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ({}, ""),
        ({"mnist_jax": "0.1.0", "commit": None, "dirty": None}, "mnist_jax 0.1.0"),
        ({"mnist_jax": None, "commit": "5" * 40, "dirty": False}, "commit 555555555555"),
        (
            {"mnist_jax": "0.1.0", "commit": "5" * 40, "dirty": True},
            "mnist_jax 0.1.0, commit 555555555555, with uncommitted changes",
        ),
    ],
)
def test_program_in_words(recorded, words):
    assert program(recorded) == words


def test_the_number_of_cores_is_part_of_the_environment(monkeypatch):
    before = environment()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000)))
    assert environment_changes(before, environment()) == [f"device 1000 CPU cores instead of {before['device']}"]


def test_recorded_command_starts_from_the_beginning(monkeypatch):
    monkeypatch.setattr("sys.argv", ["program", "train", "he", "--out", "a b", "--resume", "--seed", "1"])
    assert command_line("mnist-jax") == "mnist-jax train he --out 'a b' --seed 1"


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({}, 8),
        ({"": "max 100000"}, 8),
        ({"": "200000 100000"}, 2),
        ({"a": "150000 100000", "a/b": "max 100000"}, 2),
        ({"a/b": "10000 100000"}, 1),
        ({"a/b": "damaged"}, 8),
    ],
)
def test_cores_are_those_of_affinity_and_of_all_control_groups(monkeypatch, tmp_path, quotas, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    own = tmp_path / "cgroup"
    own.write_text("1:cpu:/other\n0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    for folder, quota in quotas.items():
        (tmp_path / folder / "cpu.max").write_text(quota)
    monkeypatch.setattr(provenance, "_CONTROL_GROUPS", (tmp_path, own))
    assert provenance.cores() == cores
