import dataclasses
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import stat
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from mnist_jax import LESSONS, UserError
from mnist_jax.runs import checkpoints as module
from mnist_jax.runs import loop as experiment
from mnist_jax.runs.checkpoints import Checkpoints, last_checkpoint
from mnist_jax.runs.devices import Placement, Trainer
from mnist_jax.runs.loop import train_runs
from mnist_jax.runs.records import Run

ARRAYS = {"kernel": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "step": np.array([7], np.int32)}


@pytest.fixture
def notices():
    return []


@pytest.fixture
def checkpoints(tmp_path, notices):
    return Checkpoints(tmp_path / "checkpoints", notify=notices.append)


def assert_same(found, arrays):
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def epochs_in(folder):
    """Of the checkpoints that are there."""
    return sorted(int(path.name.split("-")[0]) for path in folder.glob("*.safetensors"))


def file_of(folder, epoch):
    (path,) = folder.glob(f"{epoch}-*.safetensors")
    return path


def test_what_was_saved_is_read(checkpoints, notices):
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
def test_any_array_is_read_as_it_was(checkpoints, array):
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
def test_the_path_may_be_any(tmp_path, notices, name):
    checkpoints = Checkpoints(tmp_path / name / "checkpoints", keep=1, notify=notices.append)
    folder = checkpoints.of("seed-0")._folder
    for epoch in (1, 2):
        checkpoints.of("seed-0").save(epoch, ARRAYS, [epoch])
        (folder / f".3-{'0' * 32}.safetensors.123.part").touch()  # as if killed while it wrote
        assert checkpoints.of("seed-0").newest().history == last_checkpoint(folder).history == [epoch]
    checkpoints.of("seed-0").save(3, ARRAYS, [])
    assert [path.name for path in folder.iterdir()] == [file_of(folder, 3).name]
    Checkpoints(folder, keep_last=False).finish()
    assert not folder.exists()
    assert notices == []


def test_what_cannot_be_read_back_is_not_taken_for_written(checkpoints, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    checkpoints.save(1, ARRAYS, [1])
    checkpoints.save(2, ARRAYS, [2])
    read_bytes = Path.read_bytes
    with monkeypatch.context() as patch:  # a disk that forgets the last byte
        patch.setattr(Path, "read_bytes", lambda path: read_bytes(path)[: -1 if path.name.startswith("3-") else None])
        with pytest.raises(UserError, match="reads back differently"):
            checkpoints.save(3, ARRAYS, [3])
    assert {1, 2} <= set(epochs_in(folder))


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for epoch in range(1, 6):
        checkpoints.save(epoch, ARRAYS, [])
    assert epochs_in(tmp_path) == [3, 4, 5]


def test_a_checkpoint_is_one_file_that_any_system_can_hold(checkpoints, tmp_path):
    """Nothing in it depends on where it lies: it may come from Windows, whose separator is another."""
    checkpoints.save(1, ARRAYS, [1])
    (path,) = files(tmp_path / "checkpoints")
    assert re.fullmatch(r"[0-9a-z.-]{1,64}", path.name)
    names = [name.encode() for name in load(path.read_bytes())]
    assert not any(separator in name for name in names for separator in (b"/", b"\\"))
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(path, tmp_path / "elsewhere" / path.name)
    assert_same(last_checkpoint(tmp_path / "elsewhere").arrays, ARRAYS)


def test_an_epoch_that_is_saved_again_replaces_itself(checkpoints, tmp_path):
    checkpoints.save(1, ARRAYS, ["old"])
    checkpoints.save(1, ARRAYS, ["new"])
    assert epochs_in(tmp_path / "checkpoints") == [1]
    assert last_checkpoint(tmp_path / "checkpoints").history == ["new"]


def test_one_that_training_removes_while_it_is_read_is_not_missed(checkpoints, tmp_path, monkeypatch):
    checkpoints.save(1, ARRAYS, [1])
    folder = tmp_path / "checkpoints"
    read = module._read

    def removed(path):
        if module._epoch(path) < 3:
            path.unlink()
            Checkpoints(folder).save(3, ARRAYS, [3])
        return read(path)

    monkeypatch.setattr(module, "_read", removed)
    assert last_checkpoint(folder).history == [3]


def test_one_that_another_machine_removes_while_it_is_read_is_not_missed(checkpoints, tmp_path, monkeypatch):
    """On NFS: its handle is stale."""
    checkpoints.save(1, ARRAYS, [1])
    folder = tmp_path / "checkpoints"
    read_bytes = Path.read_bytes

    def removed(path):
        if module._epoch(path) < 3:
            path.unlink()
            Checkpoints(folder).save(3, ARRAYS, [3])
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", removed)
    assert last_checkpoint(folder).history == [3]


@pytest.mark.parametrize("options", [{"every": 0}, {"keep": 0}])
def test_numbers_below_one_are_refused(tmp_path, options):
    with pytest.raises(UserError, match="must be at least 1, not 0"):
        Checkpoints(tmp_path, **options)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot be written") as error:
            Checkpoints(folder).save(1, ARRAYS, [])
        assert "\n" not in str(error.value)
        assert last_checkpoint(folder) is None


# --- damage, and what others put there ---


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with the checkpoints of two epochs."""
    folder = tmp_path_factory.mktemp("two")
    for epoch in (1, 2):
        Checkpoints(folder).save(epoch, {**ARRAYS, "epoch": np.array([epoch])}, [epoch])
    return folder


@pytest.fixture
def copy(two, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(two, tmp_path / "checkpoints")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_noticed_and_the_one_before_is_used(two, tmp_path_factory, data):
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


def test_after_damage_the_epoch_is_written_again(copy, notices):
    file_of(copy, 2).write_bytes(b"")
    checkpoints = Checkpoints(copy, notify=notices.append)
    assert checkpoints.newest().epoch == 1
    assert notices == [f"The checkpoint of epoch 2 in {copy} is damaged; that of epoch 1 is used."]
    checkpoints.save(2, ARRAYS, ["again"])
    assert epochs_in(copy) == [1, 2]
    assert checkpoints.newest().history == ["again"]


def test_a_checkpoint_goes_only_when_a_newer_whole_one_is_there(copy, notices):
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


def test_files_of_others_do_not_matter_and_are_left_alone(copy, notices):
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


def test_what_is_whole_but_no_checkpoint_is_a_sentence(tmp_path):
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
def test_what_cannot_be_read_is_not_taken_for_damaged_or_missing(copy, notices, monkeypatch, method, number):
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


def test_a_checkpoint_that_cannot_be_read_back_says_why(checkpoints, monkeypatch):
    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=re.escape(f"cannot be written to {checkpoints._folder} (Input/output error)")):
        checkpoints.save(1, ARRAYS, [])


def test_a_folder_in_a_checkpoint_s_place_is_damage(copy, notices):
    victim = file_of(copy, 2)
    victim.unlink()
    victim.mkdir()
    assert Checkpoints(copy, notify=notices.append).newest().epoch == last_checkpoint(copy).epoch == 1
    assert notices == [f"The checkpoint of epoch 2 in {copy} is damaged; that of epoch 1 is used."]


def test_a_process_without_the_first_one_s_file_ends_all(checkpoints, monkeypatch):
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


def test_a_folder_that_cannot_be_cleared_ends_all_processes(copy, monkeypatch):
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


def test_groups_of_other_devices_go_with_the_last_run_but_not_others_files(tmp_path):
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
def test_the_one_before_goes_only_when_the_next_is_whole(tmp_path, monkeypatch, keep):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    checkpoints.save(1, ARRAYS, [1])
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.runs.files.os.replace", lambda old, new: 1 / 0)  # as if killed there
        with pytest.raises(ZeroDivisionError):
            checkpoints.save(2, ARRAYS, [2])
    assert checkpoints.newest().history == [1]
    checkpoints.save(2, ARRAYS, [2])
    assert checkpoints.newest().history == [2]
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM, errno.EROFS])
def test_one_that_cannot_be_removed_is_a_notice(tmp_path, monkeypatch, notices, number):
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
    """What is asked of the disk, in its order: what is written and created, synced, renamed and removed."""
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
def test_all_of_a_checkpoint_is_synced_before_an_older_one_goes(tmp_path, disk):
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


def test_a_disk_that_fails_is_a_sentence_and_one_that_syncs_no_folders_works(tmp_path, monkeypatch):
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
    monkeypatch.setattr("mnist_jax.runs.files.sys.platform", "win32")
    monkeypatch.setattr(os, "open", None)  # Windows opens no folders
    Checkpoints(tmp_path / "windows").save(1, ARRAYS, [1])


# --- runs go on from them ---


def results(epochs):
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in epochs]


def last_arrays(checkpoints, run):
    ((folder,),) = [[path for path in checkpoints._folder.iterdir() if path.name.startswith(f"seed-{run.seed}-")]]
    return checkpoints.of(folder.name).newest().arrays


def first(count, epochs):
    """So many of them, and no more is asked for: as if killed then."""
    return [epoch for _, epoch in zip(range(count), epochs, strict=False)]


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(lesson, dataset, tmp_path, stop):
    whole, parts = Checkpoints(tmp_path / "whole"), Checkpoints(tmp_path / "parts")
    expected = list(train_runs(lesson, dataset, [Run(3)], epochs=3, checkpoints=whole))
    first(stop, train_runs(lesson, dataset, [Run(3)], epochs=3, checkpoints=parts))
    found = list(train_runs(lesson, dataset, [Run(3)], epochs=3, checkpoints=parts))
    assert results(found) == results(expected)
    assert_same(last_arrays(parts, Run(3)), last_arrays(whole, Run(3)))


# Six runs, four of them side by side: two diverge at once and two later, one each of the last group, which is not full.
SIX = [Run(seed, (("learning_rate", rate),)) for seed, rate in enumerate([0.1, 1e30, 0.03, 0.05, 1e30, 0.2])]
LATER = {(3, 2), (5, 2)}


@pytest.fixture
def six_runs(dataset, one_device, monkeypatch):
    """Train the six from where they are: (run, number) -> epoch."""
    one_device()
    diverged = experiment.Epoch.diverged.fget
    late = property(lambda epoch: (epoch.run.seed, epoch.number) in LATER or diverged(epoch))
    monkeypatch.setattr(experiment.Epoch, "diverged", late)
    lesson = dataclasses.replace(LESSONS["relu"], hidden=(16, 8))

    def train(checkpoints=None, done=(), stop=99, side_by_side=4):
        options = {"epochs": 3, "placement": Placement(side_by_side), "checkpoints": checkpoints}
        epochs = first(stop, train_runs(lesson, dataset, SIX, done=done, **options))
        assert not {epoch.run for epoch in epochs} & set(done)
        return {(epoch.run.seed, epoch.number): repr(dataclasses.replace(epoch, seconds=0.0)) for epoch in epochs}

    return train


LAST = {0: 3, 1: 1, 2: 3, 3: 2, 4: 1, 5: 2}  # seed -> epoch


def over(epochs):
    """The runs of which these are all epochs, as a journal has them."""
    return [run for run in SIX if (run.seed, LAST[run.seed]) in epochs]


def test_a_group_goes_on_as_the_group_that_it_was(six_runs, tmp_path):
    whole = six_runs()
    assert len(whole) == sum(LAST.values())
    for stop in (3, 8, 10):  # the last of them in the last group
        checkpoints = Checkpoints(tmp_path / str(stop), keep_last=False)
        before = six_runs(checkpoints, stop=stop)
        done = over(before)
        after = six_runs(checkpoints, done=done)
        assert {**before, **after} == whole
        assert set(after) == {key for key in whole if key[0] not in [run.seed for run in done]}
        assert files(tmp_path) == []


def test_a_group_whose_checkpoint_is_lost_begins_again_as_the_group_that_it_was(six_runs, tmp_path):
    whole = six_runs()
    done = over(six_runs(Checkpoints(tmp_path), stop=4))
    assert [run.seed for run in done] == [1]
    shutil.rmtree(tmp_path)
    assert six_runs(Checkpoints(tmp_path), done=done) == {key: epoch for key, epoch in whole.items() if key[0] != 1}


def test_what_a_group_left_that_is_done_is_removed(six_runs, tmp_path):
    checkpoints = Checkpoints(tmp_path / "runs", keep_last=False)
    six_runs(checkpoints, stop=8)  # as if killed after the journal had the first group, and before it was removed
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert six_runs(checkpoints, done=SIX) == {}
    assert not (tmp_path / "runs").exists()


def test_another_number_side_by_side_does_not_go_on_from_it(six_runs, tmp_path):
    six_runs(Checkpoints(tmp_path), stop=6)
    for other in (2, 6):
        assert six_runs(Checkpoints(tmp_path), side_by_side=other) == six_runs(side_by_side=other)


def test_a_group_s_checkpoints_are_named_after_all_that_changes_its_last_digits(dataset, one_device):
    def name(runs, group, **options):
        return Trainer(LESSONS["mlp"], dataset, runs, **options).name(group)

    names = [  # four devices, one run each: the last group is two, filled up to four
        name(SIX, SIX[4:], placement=Placement(1)),
        name(SIX[:2], SIX[:2]),
        name(SIX, SIX[4:], placement=Placement(2)),
        name(SIX, SIX[4:], placement=Placement(devices_per_run=2)),
        name(SIX, SIX[4:], placement=Placement(1), test_every=1),
    ]
    one_device()
    names += [name(SIX, SIX[4:], placement=Placement(wide)) for wide in (1, 2, 4)]
    assert len(set(names)) == len(names)


def test_a_history_of_other_runs_is_refused(dataset, tmp_path):
    runs = [Run(0), Run(1)]
    checkpoints = Checkpoints(tmp_path)
    list(train_runs(LESSONS["mlp"], dataset, runs, epochs=1, checkpoints=checkpoints))
    kept = checkpoints.of(next(tmp_path.iterdir()).name)
    found = kept.newest()
    kept.save(1, found.arrays, found.history[:1])
    with pytest.raises(UserError, match="another version"):
        list(train_runs(LESSONS["mlp"], dataset, runs, epochs=2, checkpoints=checkpoints))


def test_runs_that_are_over_leave_their_end_or_nothing(dataset, tmp_path):
    for keep_last, left in ((True, [2]), (False, [])):
        folder = tmp_path / str(keep_last)
        list(
            train_runs(
                LESSONS["mlp"],
                dataset,
                [Run(0)],
                epochs=2,
                checkpoints=Checkpoints(folder, keep=1, keep_last=keep_last),
            )
        )
        assert [epoch for group in folder.glob("*") for epoch in epochs_in(group)] == left


@pytest.mark.parametrize(("every", "left"), [(2, [2, 4, 5]), (9, [5])])
def test_how_often_is_the_user_s(dataset, tmp_path, every, left):
    checkpoints = Checkpoints(tmp_path, every=every, keep=9)
    list(train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=5, checkpoints=checkpoints))
    (group,) = tmp_path.iterdir()
    assert epochs_in(group) == left


def test_a_clock_that_jumps_back_changes_nothing(dataset, tmp_path, monkeypatch):
    expected = results(train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=3))
    now = itertools.count(2_000_000_000, -86_400)
    monkeypatch.setattr("time.time", lambda: float(next(now)))
    monkeypatch.setattr("time.time_ns", lambda: next(now) * 10**9)
    checkpoints = Checkpoints(tmp_path)
    first(2, train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=3, checkpoints=checkpoints))
    assert results(train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=3, checkpoints=checkpoints)) == expected


def test_another_training_does_not_go_on_from_it(dataset, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    list(train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=1, checkpoints=checkpoints))
    changed = dataclasses.replace(LESSONS["mlp"], batch_size=16)
    found = list(train_runs(changed, dataset, [Run(0)], epochs=1, checkpoints=checkpoints))
    assert results(found) == results(train_runs(changed, dataset, [Run(0)], epochs=1))


def test_a_checkpoint_of_other_arrays_is_refused(dataset):
    trainer = Trainer(LESSONS["mlp"], dataset, [Run(0)])
    states = trainer.start([Run(0)])
    arrays = trainer.arrays(states, 1)
    back = trainer.restored(states, arrays)
    assert_same(trainer.arrays(back, 1), arrays)
    assert jax.tree.structure(back) == jax.tree.structure(states)
    with pytest.raises(UserError, match="another version"):
        trainer.restored(states, {**arrays, "more": np.zeros(1)})


def test_the_history_is_json(dataset, tmp_path):
    lesson = dataclasses.replace(
        LESSONS["relu"], optimizer=dataclasses.replace(LESSONS["relu"].optimizer, learning_rate=1e30)
    )
    checkpoints = Checkpoints(tmp_path)
    once = list(train_runs(lesson, dataset, [Run(0)], epochs=3, checkpoints=checkpoints))
    again = list(train_runs(lesson, dataset, [Run(0)], epochs=3, checkpoints=checkpoints))
    assert [epoch.diverged for epoch in once] == [epoch.diverged for epoch in again] == [True]
    ((folder,),) = [list(tmp_path.iterdir())]
    assert json.dumps(last_checkpoint(folder).history, allow_nan=False)
