"""The checkout that the package lies in: made here with git, and damaged."""

import hashlib
import os
import shutil
import subprocess

import pytest

from mnist_jax.runs.checkout import checkout

FILES = {
    ".gitignore": "*.pyc\n/.venv/\n",
    "README.md": "read me",
    "requirements.lock": "jax==0.10.2\n",
    "mnist_jax/__init__.py": "",
    "mnist_jax/views/page.css": "",
    "experiments/ladder.py": "",
    "experiments/timing/epochs.py": "",
    "experiments/results/ladder/results.json": "{}",
}
LOCK = hashlib.sha256(b"jax==0.10.2\n").hexdigest()
NO_COMMIT = {"commit": None, "dirty": None, "lock_sha256": LOCK}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    """No settings of the user's, and no repository of a hook in which the tests run."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def files(tmp_path):
    return add(tmp_path / "files", FILES)


@pytest.fixture
def repository(files):
    commit_all(files)
    return files


def add(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def git(root, *arguments):
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    return subprocess.run(["git", *author, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def commit_all(root):
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "all")
    return head(root)


def head(root):
    return git(root, "rev-parse", "HEAD").strip()


def test_clean_checkout(repository):
    assert checkout(repository) == {"commit": head(repository), "dirty": False, "lock_sha256": LOCK}


@pytest.mark.parametrize(
    ("name", "content", "dirty"),
    [
        ("mnist_jax/__init__.py", "changed", True),
        ("mnist_jax/__init__.py", None, True),
        ("mnist_jax/views/page.css", "changed", True),
        ("mnist_jax/new.py", "", True),
        ("mnist_jax/new.pyc", "", False),
        ("experiments/ladder.py", "changed", True),
        ("experiments/timing/epochs.py", "changed", True),
        ("experiments/own/new.py", "", True),
        ("experiments/results/ladder/results.json", "[]", False),
        ("experiments/results/new/README.md", "", False),
        ("README.md", "changed", False),
        ("tests/test_new.py", "", False),
        ("requirements.lock", "jax==0.10.2\n\n", False),
    ],
)
@pytest.mark.parametrize("staged", [False, True])
def test_checkout_is_dirty_if_the_program_changed(repository, name, content, dirty, staged):
    if content is None:
        (repository / name).unlink()
    else:
        add(repository, {name: content})
    if staged:
        git(repository, "add", "--all")
    assert (found := checkout(repository))["dirty"] is dirty
    assert found["commit"] == head(repository)


def test_user_settings_do_not_hide_a_new_module(repository):
    git(repository, "config", "status.showUntrackedFiles", "no")
    add(repository, {"mnist_jax/new.py": ""})
    assert checkout(repository)["dirty"] is True


def test_no_git(repository, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(repository))
    assert checkout(repository) == NO_COMMIT
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("does", ["exit 1", "exit 0", "echo one", r"printf '\377'; echo no >&2", "kill -9 $$"])
def test_odd_git(repository, monkeypatch, capfd, does):
    (fake := repository / "git").write_text(f"#!/bin/sh\n{does}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(repository))
    assert checkout(repository) == NO_COMMIT
    assert capfd.readouterr() == ("", "")


def test_git_that_hangs(repository, monkeypatch):
    def hang(*_, timeout, **__):
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert checkout(repository) == NO_COMMIT


def test_no_checkout_and_no_lock(files):
    assert checkout(files) == NO_COMMIT
    (files / "requirements.lock").unlink()
    assert checkout(files) == {"commit": None, "dirty": None, "lock_sha256": None}


def test_no_commit_yet(files, capfd):
    git(files, "init", "--quiet")
    git(files, "add", "--all")
    assert checkout(files) == NO_COMMIT
    assert capfd.readouterr() == ("", "")


def no_git_folder(root):
    shutil.rmtree(root / ".git")
    (root / ".git").write_bytes(b"gitdir: /nowhere\n\xff")


@pytest.mark.parametrize(
    "damage",
    [
        no_git_folder,
        lambda root: (root / ".git" / "HEAD").write_bytes(b"\xff\x00"),
        lambda root: (root / ".git" / "HEAD").write_text("5" * 40),
        lambda root: (root / ".git" / "config").write_text("[core"),
        lambda root: (root / ".git" / "index").write_bytes(b"DIRC"),
        lambda root: shutil.rmtree(root / ".git" / "objects"),
        lambda root: [path.unlink() for path in (root / ".git" / "objects").rglob("*") if path.is_file()],
    ],
    ids=["file", "HEAD", "no such commit", "config", "index", "no folder of objects", "no objects"],
)
def test_damaged_repository(repository, capfd, damage):
    damage(repository)
    assert checkout(repository) == NO_COMMIT
    assert capfd.readouterr() == ("", "")


def test_package_in_a_virtual_environment_of_another_project(repository):
    """Its repository ignores the package, and its commit says nothing about it."""
    installed = add(repository / ".venv" / "lib", {"mnist_jax/__init__.py": ""})
    assert checkout(installed) == {"commit": None, "dirty": None, "lock_sha256": None}


def test_package_in_a_folder_of_a_larger_repository(tmp_path):
    inner = add(tmp_path / "course" / "mnist", FILES)
    commit = commit_all(tmp_path / "course")
    assert checkout(inner) == {"commit": commit, "dirty": False, "lock_sha256": LOCK}
    add(inner, {"mnist_jax/__init__.py": "changed"})
    assert checkout(inner)["dirty"] is True


def test_within_a_hook_of_another_repository(repository, tmp_path, monkeypatch):
    commit = head(repository)
    other = add(tmp_path / "other", {**FILES, "more": ""})
    assert commit_all(other) != commit
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert checkout(repository)["commit"] == commit


def test_no_program_is_run_that_the_repository_names(repository, tmp_path):
    (program := tmp_path / "program").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    program.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(program))
    assert checkout(repository)["dirty"] is False
    assert not (tmp_path / "ran").exists()


def test_asking_changes_nothing(repository):
    """Not even git's index, which `git status` renews where a file was touched."""
    os.utime(repository / "mnist_jax" / "__init__.py", (0, 0))
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    assert checkout(repository)["dirty"] is False
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
