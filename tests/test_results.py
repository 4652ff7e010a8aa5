import contextlib
import errno
import os
import resource

import jax
import pytest

from mnist_jax import LESSONS, UserError, results
from mnist_jax.results import (
    CHECKPOINTS,
    JOURNAL,
    RESULTS,
    SPEED,
    describe_run,
    differences,
    environment,
    environment_changes,
    make_folder,
    new_file,
    write_file,
    write_results,
)
from mnist_jax.tensorboard import EventFiles

NUMERICS = {
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "highest",
    "jax_random_seed_offset": 1,
}


@contextlib.contextmanager
def jax_setting(name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextlib.contextmanager
def room_for(size):
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("taken", [RESULTS, JOURNAL, CHECKPOINTS, SPEED])
@pytest.mark.parametrize("file", [RESULTS, JOURNAL, SPEED])
def test_a_folder_of_any_kind_of_run_is_refused(tmp_path, taken, file):
    (tmp_path / taken).write_text("precious")
    with pytest.raises(UserError, match="already holds a run"):
        make_folder(tmp_path, "name", file)
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


@pytest.mark.parametrize("name", [*results._NUMERICS, *results._ROUNDING])
def test_jax_has_the_settings_that_are_recorded(name):
    assert name in jax.config.values


@pytest.mark.parametrize("name", NUMERICS)
def test_a_setting_that_changes_numbers_is_part_of_a_run_s_configuration(dataset, name):
    def described():
        return describe_run("train", dataset, LESSONS, command="")

    before = described()
    with jax_setting(name, NUMERICS[name]):
        assert [found[0] for found in differences(before, described())] == [f"config.jax.{name}"]


def test_the_study_s_name_is_recorded(dataset):
    assert describe_run("ladder", dataset, LESSONS, command="")["study"] == "ladder"


@pytest.mark.parametrize(
    ("name", "value"), [("jax_disable_most_optimizations", True), ("jax_use_shardy_partitioner", False)]
)
def test_a_setting_that_may_change_rounding_is_part_of_the_environment(name, value):
    before = environment()
    with jax_setting(name, value):
        assert environment_changes(before, environment()) == [f"settings.{name} {value} instead of {not value}"]


def test_environments_differ_in_all_but_python(monkeypatch):
    before = environment()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(results, "version", lambda name: "0")
    monkeypatch.setattr(results, "_processor", lambda: "abacus")
    monkeypatch.setattr(jax, "device_count", lambda: 64)
    monkeypatch.setattr("platform.python_version", lambda: "4.0")
    changed = {change.split(" ")[0] for change in environment_changes(before, environment())}
    versions = {"jax", "jaxlib", "flax", "optax", "numpy"}
    assert changed == versions | {"device", "devices", "processor", "settings.XLA_FLAGS"}


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_file(folder / "table.md", b"12345"),
        lambda folder: write_results(folder, {"lessons": {}}),
        lambda folder: EventFiles(folder, on=True).complete(("mlp", "seed-0"), [(1, {"loss": 0.5})]),
    ],
    ids=["table.md", "results.json", "event file"],
)
def test_what_does_not_fit_on_the_disk_is_one_sentence(tmp_path, write):
    with room_for(4), pytest.raises(UserError, match=f"cannot be written \\({os.strerror(errno.EFBIG)}\\)"):
        write(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_an_export_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path):
    with room_for(4), pytest.raises(UserError, match="cannot be written"), new_file(tmp_path / "net") as write:
        write(b"12345")
    assert not list(tmp_path.iterdir())
