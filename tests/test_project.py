"""The project's documents hold: versions agree, and what CONTRIBUTING.md names exists."""

import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import metadata

import pytest
import yaml
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [words.rsplit(" ", 1)[-1] for words in PROJECT["classifiers"] if ":: Python :: 3." in words]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_contributing_lists_every_target_of_make():
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    assert {*re.findall(r"`make ([\w-]+)`", CONTRIBUTING), "clean", "environment"} >= set(targets)


def test_version_is_consistent():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pre_commit_runs_the_locked_ruff():
    (hooks,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert f"ruff=={hooks['rev'].removeprefix('v')}" in (ROOT / "requirements.lock").read_text().splitlines()


def test_ci_runs_on_every_supported_python():
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["run"]
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert f"oldest={PYTHONS[0]}\n" in (ROOT / ".ci" / "run").read_text()


# --- the lock ---


def locked(python, system="linux", machine="x86_64"):
    """name -> version, of what pip installs from the lock."""
    environment = {"python_full_version": f"{python}.0", "sys_platform": system, "platform_machine": machine}
    requirements = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
    chosen = [each for each in requirements if each.marker is None or each.marker.evaluate(environment)]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in chosen}


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_has_jax_for_each_python(python):
    versions = locked(python)
    if python == "3.11":
        assert versions["jax"] == "0.10.2"
    else:
        assert Version(versions["jax"]) >= Version("0.12")
        assert Version(versions["flax"]) >= Version("0.12.12")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")]
)
def test_lock_has_one_version_of_every_requirement(python, system, machine):
    environment = {"sys_platform": system, "platform_machine": machine, "python_version": python, "extra": ""}
    extras = PROJECT["optional-dependencies"]
    needed = [Requirement(each) for each in PROJECT["dependencies"] + extras["data"] + extras["app"] + extras["dev"]]
    versions = locked(python, system, machine)
    for each in needed:
        if each.name != "mnist_jax" and (each.marker is None or each.marker.evaluate(environment)):
            assert each.specifier.contains(versions[canonicalize_name(each.name)])
    assert ("tensorflow-datasets" in versions) == (system != "win32")


def test_lock_contains_no_urls():
    assert "://" not in (ROOT / "requirements.lock").read_text()


# --- make ---


@pytest.fixture
def make(tmp_path):
    """Runs make in a folder with the Makefile alone, where `python`s that work, or do not, are found first."""
    project, found = tmp_path / "a project", tmp_path / "found"
    for folder in (project, found):
        folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, project)

    def run(*arguments, pythons=(), **variables):
        for name, works in dict(pythons).items():
            program(found / name, "exit 0" if works else "echo not found >&2; exit 127")
        # A make that runs these tests hands its own variables on.
        names = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "LANE", "PYTHON", "JAX"}
        environment = {name: value for name, value in os.environ.items() if name not in names}
        environment |= {"PATH": f"{found}{os.pathsep}{os.environ['PATH']}", **variables}
        command = ["make", *arguments]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)

    run.folder = project
    return run


def program(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def installed(make, version="3.11.7", extra=""):
    """Pretend that make has installed everything into .venv, and JAX for an accelerator."""
    program(make.folder / ".venv" / "bin" / "python", f"echo {version}")
    for name in [".installed", f".installed-{extra}"][: 1 + bool(extra)]:
        (make.folder / ".venv" / "bin" / name).touch()


STUBS = {"python3.14": False, "python3.13": False, "python3.12": False, "python3.11": False}


def test_make_takes_the_newest_python_that_works(make):
    some = {"python3.14": False, "python3.13": True, "python3.12": True, "python3": True}
    assert "python3.13 -m venv --clear .venv" in make("-n", "ladder", pythons=some).stdout
    assert "python3.14 -m venv --clear .venv" in make("-n", "ladder", pythons={"python3.14": True}).stdout
    assert "python3.12 -m venv --clear .venv" in make("-n", "ladder", "PYTHON=python3.12").stdout
    assert "python3.14 -m venv --clear .venv" in make("-n", "ladder", "PYTHON=").stdout


def test_make_refuses_an_old_python(make):
    program(make.folder.parent / "found" / "python3", 'case "$2" in *version_info*) exit 1; esac')
    done = make("test", pythons=STUBS)
    assert done.returncode == 2
    assert "error: Python 3.11 or newer is needed; name one with: make PYTHON=" in done.stderr
    assert not (make.folder / ".venv").exists()


def test_make_does_not_replace_an_environment_silently(make):
    installed(make)
    program(make.folder.parent / "found" / "python3.12", "echo 3.12.1")
    assert make("-n", "ladder").stdout == ".venv/bin/python experiments/ladder.py\n"
    done = make("-n", "ladder", "PYTHON=python3.12")
    assert (done.returncode, "another Python than python3.12; to replace it: make clean" in done.stderr) == (2, True)


def test_make_repairs_an_environment_whose_python_is_gone(make):
    installed(make)
    program(make.folder / ".venv" / "bin" / "python", "exit 127")
    assert "python3.14 -m venv --clear .venv" in make("-n", "ladder", pythons={"python3.14": True}).stdout


@pytest.mark.parametrize("extra", ["cuda13", "cuda12", "tpu"])
def test_make_installs_jax_for_an_accelerator_at_the_locked_version(make, extra):
    line = f'.venv/bin/python -m pip install --quiet --constraint requirements.lock "jax[{extra}]"'
    lines = make("-n", "ladder", f"JAX={extra}").stdout.splitlines()
    assert line in lines
    assert lines[-1] == ".venv/bin/python experiments/ladder.py"
    assert extra in metadata("jax").get_all("Provides-Extra")
    assert "jax[" not in make("-n", "ladder").stdout
    installed(make, extra=extra)
    os.utime(make.folder / "requirements.lock", (2e9, 2e9))
    assert line in make("-n", "test").stdout.splitlines()  # renewed with the rest


@pytest.mark.parametrize("extra", ["cuda99", "cuda13 tpu", "CUDA13"])
def test_make_refuses_an_unknown_accelerator(make, extra):
    done = make("-n", "ladder", f"JAX={extra}")
    assert done.returncode == 2
    assert f"JAX={extra} is not known; JAX can be cuda13, cuda12 or tpu" in done.stderr


def test_make_does_not_mix_accelerators(make):
    installed(make, extra="cuda13")
    done = make("-n", "ladder", "JAX=cuda12")
    assert (done.returncode, "has JAX for another accelerator; to replace it: make clean" in done.stderr) == (2, True)
    assert make("-n", "clean", "JAX=cuda12").stdout == "rm -rf .venv\n"


@pytest.mark.parametrize("lane", ["../found", "x/../../found", "/", "found other"])
def test_make_clears_no_folder_but_its_own(make, lane):
    (make.folder / "found").mkdir()
    command = make("-n", "clean", f"LANE={lane}").stdout
    assert command in ("rm -rf .venv\n", "rm -rf .venv-found\n")
    assert make("-n", "clean", VENV="precious").stdout == "rm -rf .venv\n"
