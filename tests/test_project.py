"""The project's documents hold: versions agree, and what CONTRIBUTING.md names exists."""

import os
import re
import subprocess
import tomllib
from importlib import import_module
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
WALK = re.findall(r"`([a-z_]+(?:\.\w+)+)`", CONTRIBUTING.split("## A walk")[1])


@pytest.mark.parametrize("name", [name for name in dict.fromkeys(WALK) if not name.startswith("jax.")])
def test_names_in_the_walk_exist(name):
    *modules, last = name.split(".")
    if modules[-1][0].isupper():
        *modules, kind = modules
        assert hasattr(getattr(import_module(".".join(["mnist_jax", *modules])), kind), last)
    else:
        assert hasattr(import_module(".".join(["mnist_jax", *modules])), last)


def test_contributing_names_every_room():
    rooms = [path.parent.name for path in sorted((ROOT / "mnist_jax").glob("*/__init__.py"))]
    assert sorted(re.findall(r"^\| `(\w+)/` \|", CONTRIBUTING, re.MULTILINE)) == rooms


def test_contributing_lists_every_target_of_make():
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    assert {*re.findall(r"`make ([\w-]+)`", CONTRIBUTING), "clean"} >= set(targets)


def test_the_version_is_everywhere_the_same():
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
def test_the_lock_has_each_python_s_jax(python):
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
def test_the_lock_has_one_version_of_all_that_is_needed(python, system, machine):
    environment = {"sys_platform": system, "platform_machine": machine, "python_version": python, "extra": ""}
    extras = PROJECT["optional-dependencies"]
    needed = [Requirement(each) for each in PROJECT["dependencies"] + extras["data"] + extras["app"] + extras["dev"]]
    versions = locked(python, system, machine)
    for each in needed:
        if each.name != "mnist_jax" and (each.marker is None or each.marker.evaluate(environment)):
            assert each.specifier.contains(versions[canonicalize_name(each.name)])
    assert ("tensorflow-datasets" in versions) == (system != "win32")


def test_the_lock_names_no_host():
    assert "://" not in (ROOT / "requirements.lock").read_text()


# --- make ---


def dry_run(*arguments, path=""):
    """What make would do in a fresh clone, with `path` before the folders that are looked in."""
    command = ["make", "--dry-run", "VENV=new", *arguments]
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def python_found(folder, name, works):
    """A Python in the folder that works, or a version manager's stub."""
    script = folder / name
    script.write_text("#!/bin/sh\n" + ("exit 0\n" if works else "echo not found >&2; exit 127\n"))
    script.chmod(0o755)


def test_make_takes_the_newest_python_that_works(tmp_path):
    for name, works in {"python3.14": False, "python3.13": True, "python3.12": True, "python3": True}.items():
        python_found(tmp_path, name, works)
    assert "python3.13 -m venv --clear new" in dry_run("ladder", path=tmp_path).stdout
    python_found(tmp_path, "python3.14", works=True)
    assert "python3.14 -m venv --clear new" in dry_run("ladder", path=tmp_path).stdout
    assert "python3.12 -m venv --clear new" in dry_run("ladder", "PYTHON=python3.12", path=tmp_path).stdout


def test_make_refuses_an_old_python(tmp_path):
    for name in ("python3.14", "python3.13", "python3.12", "python3.11"):
        python_found(tmp_path, name, works=False)
    (tmp_path / "python3").write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 1; esac\n')
    (tmp_path / "python3").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["make", f"VENV={tmp_path}/new", "test"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: Python 3.11 or newer is needed; name one with: make PYTHON=" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("extra", ["cuda13", "cuda12", "tpu"])
def test_make_installs_jax_for_an_accelerator_at_the_locked_version(extra):
    lines = dry_run("ladder", f"JAX={extra}").stdout.splitlines()
    assert f'new/bin/python -m pip install --quiet --constraint requirements.lock "jax[{extra}]"' in lines
    assert lines[-1] == "new/bin/python experiments/ladder.py"
    assert extra in metadata("jax").get_all("Provides-Extra")
    assert "jax[" not in dry_run("ladder").stdout


def test_make_refuses_an_unknown_accelerator():
    done = dry_run("ladder", "JAX=cuda99")
    assert done.returncode == 2
    assert "JAX=cuda99 is not known; JAX can be cuda13, cuda12 or tpu" in done.stderr
