"""The project's documents hold: versions agree, and what CONTRIBUTING.md names exists."""

import re
import tomllib
from importlib import import_module

import pytest
import yaml
from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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
    promised = [words.rsplit(" ", 1)[-1] for words in PROJECT["classifiers"] if ":: Python :: 3." in words]
    assert job["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
