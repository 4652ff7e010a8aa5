import errno
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import ARRAYS, assert_same, epoch_of, epochs_in, file_of, files
from safetensors.numpy import load

from mnist_jax import UserError
from mnist_jax.runs.checkpoints import Checkpoints, last_checkpoint


def test_checkpoint_round_trip(checkpoints, notices):
    assert checkpoints.newest() is None
    checkpoints.save(1, ARRAYS, [{"loss": 0.1, "other": None}])
    checkpoints.save(2, {**ARRAYS, "step": np.array([8], np.int32)}, [1, 2])
    epoch, arrays, history = checkpoints.newest()
    assert (epoch, history) == (2, [1, 2])
    assert_same(arrays, {**ARRAYS, "step": np.array([8], np.int32)})
    assert notices == []


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,  # not in C order
        np.arange(6)[::2],
        np.array([[np.nan, -0.0, np.inf]], np.float32),
        np.zeros((0, 3), np.uint32),
        np.array(3, np.uint8),
        np.array([True]),
    ],
    ids=str,
)
def test_array_round_trip(checkpoints, array):
    checkpoints.save(1, {"any": array}, [float("inf")])
    found = checkpoints.newest()
    assert_same(found.arrays, {"any": array})
    assert found.arrays["any"].tobytes() == array.tobytes()
    assert found.history == [float("inf")]


# Square brackets are what users have; the others mean something to a shell, a glob, a URL or another system.
NAMES = ["run[1]", "[2026] mnist/run", "[!a]", "run*", "a?b", "**", "{a,b}", "~", "~root", " a b ", "%41%", "gs:/run"]
NAMES += [
    "s3:",
    "file:",
    "a#b&c;d",
    "back\\slash",
    "$HOME",
    "'\"",
    "naïve 숫자",
    "line\nbreak",
    "-x",
    os.fsdecode(b"\xff"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_path_works(tmp_path, notices, name):
    checkpoints = Checkpoints(tmp_path / name / "checkpoints", keep=1, notify=notices.append)
    folder = tmp_path / name / "checkpoints" / "seed-0"
    for epoch in (1, 2):
        checkpoints.of("seed-0").save(epoch, ARRAYS, [epoch])
        (folder / f".3-{'0' * 32}.safetensors.123.part").touch()  # as if killed while it wrote
        assert checkpoints.of("seed-0").newest().history == last_checkpoint(folder).history == [epoch]
    checkpoints.of("seed-0").save(3, ARRAYS, [])
    assert [path.name for path in folder.iterdir()] == [file_of(folder, 3).name]
    Checkpoints(folder, keep_last=False).finish()
    assert not folder.exists()
    assert notices == []


def test_unreadable_checkpoint_does_not_count_as_written(checkpoints, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    checkpoints.save(1, ARRAYS, [1])
    checkpoints.save(2, ARRAYS, [2])
    read_bytes = Path.read_bytes
    with monkeypatch.context() as patch:  # a disk that forgets the last byte
        patch.setattr(Path, "read_bytes", lambda path: read_bytes(path)[: -1 if path.name.startswith("3-") else None])
        with pytest.raises(UserError, match="reads back differently"):
            checkpoints.save(3, ARRAYS, [3])
    assert {1, 2} <= set(epochs_in(folder))


def test_newest_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for epoch in range(1, 6):
        checkpoints.save(epoch, ARRAYS, [])
    assert epochs_in(tmp_path) == [3, 4, 5]


def test_checkpoint_is_one_portable_file(checkpoints, tmp_path):
    """Nothing in it depends on where it lies: it may come from Windows, whose separator is another."""
    checkpoints.save(1, ARRAYS, [1])
    (path,) = files(tmp_path / "checkpoints")
    assert re.fullmatch(r"[0-9a-z.-]{1,64}", path.name)
    names = [name.encode() for name in load(path.read_bytes())]
    assert not any(separator in name for name in names for separator in (b"/", b"\\"))
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(path, tmp_path / "elsewhere" / path.name)
    assert_same(last_checkpoint(tmp_path / "elsewhere").arrays, ARRAYS)


def test_epoch_saved_twice_replaces_the_first(checkpoints, tmp_path):
    checkpoints.save(1, ARRAYS, ["old"])
    checkpoints.save(1, ARRAYS, ["new"])
    assert epochs_in(tmp_path / "checkpoints") == [1]
    assert last_checkpoint(tmp_path / "checkpoints").history == ["new"]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE], ids=["here", "on another machine, through NFS"])
def test_checkpoint_removed_by_training_during_read(checkpoints, tmp_path, monkeypatch, number):
    checkpoints.save(1, ARRAYS, [1])
    folder = tmp_path / "checkpoints"
    read_bytes = Path.read_bytes

    def removed(path):
        if epoch_of(path) < 3:
            path.unlink()
            Checkpoints(folder).save(3, ARRAYS, [3])
            raise OSError(number, os.strerror(number), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", removed)
    assert last_checkpoint(folder).history == [3]


@pytest.mark.parametrize("options", [{"every": 0}, {"keep": 0}])
def test_numbers_below_one_are_refused(tmp_path, options):
    with pytest.raises(UserError, match="must be at least 1, not 0"):
        Checkpoints(tmp_path, **options)


def test_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot be written") as error:
            Checkpoints(folder).save(1, ARRAYS, [])
        assert "\n" not in str(error.value)
        assert last_checkpoint(folder) is None


def test_groups_of_other_devices_are_removed_after_the_last_run(tmp_path):
    folder = tmp_path / "checkpoints"
    for name in ("seed-0-one", "seed-0-two", "seed-3-one"):
        Checkpoints(folder).of(name).save(1, ARRAYS, [1])
    (folder / "seed-0-one" / f".2-{'0' * 32}.safetensors.1.part").touch()
    (folder / "seed-4-mine").touch()
    Checkpoints(folder).finish_groups()
    assert len(files(folder)) == 5
    others = [folder / "seed-3-one" / ".DS_Store", folder / ".Trash" / f"1-{'0' * 32}.safetensors"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    Checkpoints(folder, keep_last=False).finish_groups()
    assert set(files(folder)) == {*others, folder / "seed-4-mine"}
    assert {path.name for path in folder.iterdir()} == {"seed-3-one", "seed-4-mine", ".Trash"}
    for path in files(folder):
        path.unlink()
    (folder / ".Trash").rmdir()
    Checkpoints(folder, keep_last=False).finish_groups()
    assert not folder.exists()
    Checkpoints(folder, keep_last=False).finish_groups()


@pytest.mark.parametrize("keep", [1, 2])
def test_previous_checkpoint_is_removed_after_the_next_is_intact(tmp_path, monkeypatch, keep):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    checkpoints.save(1, ARRAYS, [1])
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.data.files.os.replace", lambda old, new: 1 / 0)  # as if killed there
        with pytest.raises(ZeroDivisionError):
            checkpoints.save(2, ARRAYS, [2])
    assert checkpoints.newest().history == [1]
    checkpoints.save(2, ARRAYS, [2])
    assert checkpoints.newest().history == [2]
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM, errno.EROFS])
def test_unremovable_checkpoint_is_reported(tmp_path, monkeypatch, notices, number):
    checkpoints = Checkpoints(tmp_path / "runs", keep=1, keep_last=False, notify=notices.append)
    checkpoints.save(1, ARRAYS, [1])
    part = tmp_path / "runs" / f".2-{'0' * 32}.safetensors.123.part"
    part.touch()

    def refuse(path, missing_ok=False):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    for epoch in (2, 3, 4):
        checkpoints.save(epoch, ARRAYS, [epoch])
        assert checkpoints.newest().history == [epoch]
    stuck = [part, *(file_of(tmp_path / "runs", epoch) for epoch in (1, 2, 3))]
    said = [f"{path} is no longer needed but cannot be removed ({os.strerror(number)})." for path in stuck]
    assert notices == said
    checkpoints.finish()
    assert notices[len(said) :] == [said[-1].replace(str(stuck[-1]), str(file_of(tmp_path / "runs", 4)))]
    monkeypatch.undo()
    checkpoints.finish()
    assert not (tmp_path / "runs").exists()


def test_nothing_is_unpickled(two):
    for path in files(two):
        assert set(load(path.read_bytes())) == {*ARRAYS, "epoch", "history"}
        assert b"\x80\x04" not in path.read_bytes()[:2]


# --- a power loss ---


@pytest.fixture
def disk(monkeypatch):
    """The operations on the disk, in order: what is written and created, synced, renamed and removed."""
    events = []
    fsync, replace, unlink, mkdir = os.fsync, os.replace, Path.unlink, Path.mkdir

    def name(opened):
        kind = "folder" if stat.S_ISDIR(os.fstat(opened).st_mode) else "file"
        return kind, Path(f"/proc/self/fd/{opened}").readlink().name

    def recorded(what, function, path):
        return lambda *arguments, **options: events.append((what, *path(*arguments))) or function(*arguments, **options)

    monkeypatch.setattr(os, "fsync", recorded("sync", fsync, name))
    monkeypatch.setattr(os, "replace", recorded("rename", replace, lambda old, new: (old.name, new.name)))
    monkeypatch.setattr(Path, "unlink", recorded("remove", unlink, lambda path, *_: (path.name,)))
    monkeypatch.setattr(Path, "mkdir", recorded("make", mkdir, lambda path, *_: (path.name,)))
    return events


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it looks up the files' names where Linux has them")
def test_checkpoint_is_synced_before_an_older_one_is_removed(tmp_path, disk):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1).of("seed-0")
    checkpoints.save(1, ARRAYS, [1])
    first = file_of(tmp_path / "checkpoints" / "seed-0", 1).name
    after = disk[max(place for place, event in enumerate(disk) if event[0] == "make") + 1 :]
    part = f".{first}.{os.getpid()}.part"
    assert sorted(after[:2]) == sorted([("sync", "folder", "checkpoints"), ("sync", "folder", tmp_path.name)])
    written = [("sync", "file", part), ("rename", part, first), ("sync", "folder", "seed-0")]
    assert after[2:] == written
    disk.clear()
    checkpoints.save(2, ARRAYS, [2])
    second = file_of(tmp_path / "checkpoints" / "seed-0", 2).name
    replaced = [tuple(word.replace(first, second) for word in event) for event in written]
    assert [event for event in disk if event[0] != "make"] == [*replaced, ("remove", first)]


def test_failing_disk_is_reported_and_unsyncable_folder_works(tmp_path, monkeypatch):
    fsync = os.fsync

    def failing(number, kind):
        def sync(opened):
            if kind(os.fstat(opened).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(opened)

        return sync

    for number, kind in ((errno.EIO, stat.S_ISREG), (errno.EIO, stat.S_ISDIR), (errno.ENOSPC, stat.S_ISREG)):
        monkeypatch.setattr(os, "fsync", failing(number, kind))
        with pytest.raises(UserError, match=re.escape(os.strerror(number))):
            Checkpoints(tmp_path / str(kind)).save(1, ARRAYS, [1])
    for number in (errno.EINVAL, errno.ENOTSUP):
        monkeypatch.setattr(os, "fsync", failing(number, stat.S_ISDIR))
        Checkpoints(tmp_path / str(number)).save(1, ARRAYS, [1])
    monkeypatch.setattr("mnist_jax.data.files.sys.platform", "win32")
    monkeypatch.setattr(os, "open", None)  # Windows opens no folders
    Checkpoints(tmp_path / "windows").save(1, ARRAYS, [1])
