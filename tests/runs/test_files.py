import errno
import os
import types

import jax
import pytest
from helpers import NUMERICS, ROUNDING, jax_setting, room_for

from mnist_jax import LESSONS, UserError
from mnist_jax.runs import provenance
from mnist_jax.runs.files import (
    CHECKPOINTS,
    JOURNAL,
    RESULTS,
    SPEED,
    TABLE,
    make_folder,
    new_file,
    write_file,
    write_results,
)
from mnist_jax.runs.provenance import command_line, describe_run, differences, environment, environment_changes
from mnist_jax.views.tensorboard import EventFiles


@pytest.mark.parametrize("taken", [RESULTS, JOURNAL, CHECKPOINTS, SPEED, TABLE])
@pytest.mark.parametrize("file", [RESULTS, JOURNAL, SPEED])
def test_folder_of_any_kind_of_run_is_not_reused(tmp_path, taken, file):
    (tmp_path / taken).write_text("precious")
    with pytest.raises(UserError, match=r"already holds a (run|README\.md)"):
        make_folder(tmp_path, "name", file)
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


@pytest.mark.parametrize("name", [*NUMERICS, *ROUNDING])
def test_recorded_settings_exist_in_jax(name):
    assert name in jax.config.values


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


def test_environments_are_compared_except_for_python(monkeypatch):
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
    monkeypatch.setattr("platform.python_version", lambda: "4.0")
    changed = {change.split(" ")[0] for change in environment_changes(before, environment())}
    versions = {"jax", "jaxlib", "flax", "optax", "numpy"}
    devices = {"backend", "backend_version", "device", "devices", "processes", "processor"}
    assert changed == versions | devices | {f"settings.{name}" for name in variables}


def test_the_number_of_cores_is_part_of_the_environment(monkeypatch):
    before = environment()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000)))
    assert environment_changes(before, environment()) == [f"device 1000 CPU cores instead of {before['device']}"]


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_file(folder / "README.md", b"12345"),
        lambda folder: write_results(folder, {"lessons": {}}),
        lambda folder: EventFiles(folder, on=True).complete(("mlp", "seed-0"), [(1, {"loss": 0.5})]),
    ],
    ids=["README.md", "results.json", "event file"],
)
def test_full_disk_is_reported_in_one_sentence(tmp_path, write):
    with room_for(4), pytest.raises(UserError, match=f"cannot be written \\({os.strerror(errno.EFBIG)}\\)"):
        write(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_interrupted_a_file_is_as_it_was(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    write_file(tmp_path / "README.md", b"before")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "README.md", b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


@pytest.fixture
def synced(monkeypatch):
    """What is synced: (device and inode, size on the disk)."""
    found = []

    def fsync(file):
        status = os.fstat(file)
        found.append(((status.st_dev, status.st_ino), status.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def identity(path):
    return path.stat().st_dev, path.stat().st_ino


def test_file_is_synced_before_its_folder(tmp_path, synced):
    write_file(tmp_path / "README.md", b"12345")
    assert synced[0] == (identity(tmp_path / "README.md"), 5)
    assert [which for which, _ in synced] == [identity(tmp_path / "README.md"), identity(tmp_path)]


@pytest.mark.parametrize("out", [".", "new"])
def test_claimed_folder_is_synced(tmp_path, synced, out):
    folder = make_folder(tmp_path / out, "name", JOURNAL)
    assert synced[-1][0] == identity(folder)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
def test_unreadable_folder_can_be_written(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    write_file(tmp_path / "README.md", b"12345")
    assert (tmp_path / "README.md").read_bytes() == b"12345"


def test_recorded_command_starts_from_the_beginning(monkeypatch):
    monkeypatch.setattr("sys.argv", ["program", "train", "he", "--out", "a b", "--resume", "--seed", "1"])
    assert command_line("mnist-jax") == "mnist-jax train he --out 'a b' --seed 1"


def test_export_not_fitting_on_disk_leaves_nothing(tmp_path):
    with room_for(4), pytest.raises(UserError, match="cannot be written"), new_file(tmp_path / "net") as write:
        write(b"12345")
    assert not list(tmp_path.iterdir())
