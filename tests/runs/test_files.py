import errno
import os

import pytest
from helpers import room_for

from mnist_jax import UserError
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
from mnist_jax.views.tensorboard import EventFiles


@pytest.mark.parametrize("taken", [RESULTS, JOURNAL, CHECKPOINTS, SPEED, TABLE])
@pytest.mark.parametrize("file", [RESULTS, JOURNAL, SPEED])
def test_folder_of_any_kind_of_run_is_not_reused(tmp_path, taken, file):
    (tmp_path / taken).write_text("precious")
    with pytest.raises(UserError, match=r"already holds a (run|README\.md)"):
        make_folder(tmp_path, "name", file)
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_file(folder / "README.md", b"12345"),
        lambda folder: write_results(folder, {"lessons": {}}),
        lambda folder: EventFiles(folder, on=True).complete(("mlp", "seed-0"), [(1, {"loss": 0.5})]),
    ],
    ids=["README.md", "results.json", "event file"],
)
def test_full_disk_is_reported(tmp_path, write):
    with room_for(4), pytest.raises(UserError, match=f"cannot be written \\({os.strerror(errno.EFBIG)}\\)"):
        write(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_interrupted_write_leaves_the_file_unchanged(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    write_file(tmp_path / "README.md", b"before")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "README.md", b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


@pytest.fixture
def synced(monkeypatch):
    """A list of what is synced: (device and inode, size on the disk)."""
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


def test_export_not_fitting_on_disk_leaves_nothing(tmp_path):
    with room_for(4), pytest.raises(UserError, match="cannot be written"), new_file(tmp_path / "net") as write:
        write(b"12345")
    assert not list(tmp_path.iterdir())
