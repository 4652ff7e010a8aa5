"""Checkpoints that are damaged, cannot be read, or lie beside files of others."""

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import ARRAYS, assert_same, epochs_in, file_of, files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_jax import UserError
from mnist_jax.runs import checkpoints as module
from mnist_jax.runs.checkpoints import Checkpoints, last_checkpoint


@pytest.fixture
def copy(two, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(two, tmp_path / "checkpoints")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_detected_and_the_previous_checkpoint_used(two, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged") / "checkpoints"
    shutil.copytree(two, folder)
    victim = file_of(folder, 2)
    before = victim.read_bytes()
    content = bytearray(before)
    if data.draw(st.booleans(), label="flip"):
        bit = data.draw(st.integers(0, 8 * len(content) - 1), label="bit")
        content[bit // 8] ^= 1 << bit % 8
    else:
        content = content[: data.draw(st.integers(0, len(content)), label="cut")]
    victim.write_bytes(content)
    notices = []
    epoch, arrays, history = Checkpoints(folder, notify=notices.append).newest()
    assert (epoch, len(notices)) == ((2, 0) if content == before else (1, 1))
    assert history == [epoch]
    assert_same(arrays, {**ARRAYS, "epoch": np.array([epoch])})
    shutil.rmtree(folder.parent)


def test_damaged_epoch_is_rewritten(copy, notices):
    file_of(copy, 2).write_bytes(b"")
    checkpoints = Checkpoints(copy, notify=notices.append)
    assert checkpoints.newest().epoch == 1
    assert notices == [f"The checkpoint of epoch 2 in {copy} is damaged; that of epoch 1 is used."]
    checkpoints.save(2, ARRAYS, ["again"])
    assert epochs_in(copy) == [1, 2]
    assert checkpoints.newest().history == ["again"]


def test_checkpoint_is_removed_only_after_a_newer_intact_one_exists(copy, notices):
    for path in files(copy):
        path.write_bytes(path.read_bytes()[:-1])
    damaged = files(copy)
    checkpoints = Checkpoints(copy, keep=1, notify=notices.append)
    assert checkpoints.newest() is None
    assert files(copy) == damaged
    assert notices == [
        f"The checkpoint of epoch {epoch} in {copy} is damaged; training starts from epoch 1." for epoch in (2, 1)
    ]
    checkpoints.save(1, ARRAYS, [1])
    assert epochs_in(copy) == [1, 2]
    assert checkpoints.newest().history == [1]
    checkpoints.save(3, ARRAYS, [3])
    assert epochs_in(copy) == [3]


# As Finder, Explorer, sync programs, editors, archives and NFS leave them.
STRAYS = [".DS_Store", "._2-{digest}.safetensors", ".2-{digest}.safetensors.icloud", "2-{digest}.safetensors~"]
STRAYS += ["2-{digest} (conflicted copy).safetensors", "Thumbs.db", "desktop.ini", "Icon\r", ".nfs000000001", "9"]
STRAYS += [
    "007-{digest}.safetensors",
    "\u0667-{digest}.safetensors",
    "9" * 50 + "-{digest}.safetensors",
    "lost+found/x",
]
STRAYS += ["2/sha256.json", ".Trash-1000/2-{digest}.safetensors", "2.orbax-checkpoint-tmp/x"]


def test_foreign_files_are_ignored_and_kept(copy, notices):
    before = last_checkpoint(copy)
    strays = [copy / name.format(digest="0" * 32) for name in STRAYS]
    for stray in strays:
        stray.parent.mkdir(exist_ok=True)
        stray.write_text("[" * 3000)
    checkpoints = Checkpoints(copy, keep=1, keep_last=False, notify=notices.append)
    assert checkpoints.newest().history == last_checkpoint(copy).history == before.history
    checkpoints.save(3, ARRAYS, [3])
    assert set(files(copy)) - set(strays) == {file_of(copy, 3)}
    checkpoints.finish()
    assert set(files(copy)) == set(strays)
    assert notices == []


def test_intact_file_that_is_no_checkpoint_is_refused(tmp_path):
    for content in (b"{}", b"[" * 3000, file_of_arrays(), file_of_arrays(history=b"[" * 100_000)):
        path = tmp_path / f"2-{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
        path.write_bytes(content)
        for read in (Checkpoints(tmp_path).newest, lambda: last_checkpoint(tmp_path)):
            with pytest.raises(UserError, match="another version") as error:
                read()
            assert "\n" not in str(error.value)
        path.unlink()


def file_of_arrays(**more):
    from safetensors.numpy import save

    return save({**ARRAYS, **{name: np.frombuffer(content, np.uint8) for name, content in more.items()}})


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("method", ["read_bytes", "iterdir"])
def test_read_error_is_not_mistaken_for_damage(copy, notices, monkeypatch, method, number):
    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    path = copy if method == "iterdir" else file_of(copy, 2)
    before = files(copy)
    monkeypatch.setattr(Path, method, refuse)
    for read in (Checkpoints(copy, notify=notices.append).newest, lambda: last_checkpoint(copy)):
        with pytest.raises(UserError) as error:
            read()
        assert str(error.value) == f"{path} cannot be read ({os.strerror(number)})."
    monkeypatch.undo()
    assert (files(copy), notices) == (before, [])


def test_failed_read_back_states_the_reason(checkpoints, tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        UserError, match=re.escape(f"cannot be written to {tmp_path / 'checkpoints'} (Input/output error)")
    ):
        checkpoints.save(1, ARRAYS, [])


def test_folder_in_place_of_a_checkpoint_counts_as_damage(copy, notices):
    victim = file_of(copy, 2)
    victim.unlink()
    victim.mkdir()
    assert Checkpoints(copy, notify=notices.append).newest().epoch == last_checkpoint(copy).epoch == 1
    assert notices == [f"The checkpoint of epoch 2 in {copy} is damaged; that of epoch 1 is used."]


def test_process_missing_the_shared_file_ends_all(checkpoints, monkeypatch):
    """Otherwise the first one would wait for it for ever."""

    def in_all(function):
        with pytest.raises(UserError, match=f"1-{'0' * 32}.safetensors cannot be read; all processes need the same"):
            function()
        raise UserError("in all")

    monkeypatch.setattr(module, "from_first", lambda function: f"1-{'0' * 32}.safetensors")
    with pytest.raises(UserError, match="all processes need the same folder"):
        checkpoints.newest()
    monkeypatch.setattr(module, "in_all", in_all)
    with pytest.raises(UserError, match="in all"):
        checkpoints.newest()


def test_uncleared_folder_ends_all_processes(copy, monkeypatch):
    def from_first(function):
        with pytest.raises(UserError, match="cannot be read"):
            function()
        raise UserError("in all")

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    monkeypatch.setattr(module, "from_first", from_first)
    with pytest.raises(UserError, match="in all"):
        Checkpoints(copy, keep_last=False).finish()
