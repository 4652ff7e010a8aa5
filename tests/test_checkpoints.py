import dataclasses
import hashlib
import itertools
import json
import shutil

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_jax import LESSONS, UserError
from mnist_jax import checkpoints as module
from mnist_jax.checkpoints import DIGESTS, Checkpoints, last_checkpoint
from mnist_jax.experiment import Run, Trainer, train_runs

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


def test_what_was_saved_is_read(checkpoints, notices):
    assert checkpoints.newest() is None
    checkpoints.save(1, ARRAYS, [{"loss": 0.1, "other": None}])
    checkpoints.save(2, {**ARRAYS, "step": np.array([8], np.int32)}, [1, 2])
    epoch, arrays, history = checkpoints.newest()
    assert (epoch, history) == (2, [1, 2])
    assert_same(arrays, {**ARRAYS, "step": np.array([8], np.int32)})
    assert notices == []


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for epoch in range(1, 6):
        checkpoints.save(epoch, ARRAYS, [])
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdecimal()) == ["3", "4", "5"]


def test_what_was_left_half_there_is_written_anew(checkpoints, tmp_path):
    checkpoints.save(1, ARRAYS, ["old"])
    (tmp_path / "checkpoints" / "1" / DIGESTS).unlink()  # as if killed just before
    changed = {name: array + 1 for name, array in ARRAYS.items()}
    checkpoints.save(1, changed, ["new"])
    found = last_checkpoint(tmp_path / "checkpoints")
    assert found.history == ["new"]
    assert_same(found.arrays, changed)
    with pytest.raises(UserError, match="one of epoch 1 already"):
        checkpoints.save(1, ARRAYS, ["again"])
    assert last_checkpoint(tmp_path / "checkpoints").history == ["new"]


def test_one_that_training_removes_while_it_is_read_is_not_missed(checkpoints, tmp_path, monkeypatch):
    for epoch in (1, 2):
        checkpoints.save(epoch, ARRAYS, [epoch])
    folder = tmp_path / "checkpoints"
    read = module._read

    def removed(where, epoch, **options):
        if epoch == 2:
            shutil.rmtree(folder / "2")
        return read(where, epoch, **options)

    monkeypatch.setattr(module, "_read", removed)
    assert last_checkpoint(folder).history == [1]


@pytest.mark.parametrize("options", [{"every": 0}, {"keep": 0}])
def test_numbers_below_one_are_refused(tmp_path, options):
    with pytest.raises(UserError, match="must be at least 1, not 0"):
        Checkpoints(tmp_path, **options)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written") as error:
        Checkpoints(tmp_path / "file").save(1, ARRAYS, [])
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with the checkpoints of two epochs."""
    folder = tmp_path_factory.mktemp("two")
    for epoch in (1, 2):
        Checkpoints(folder).save(epoch, {**ARRAYS, "epoch": np.array([epoch])}, [epoch])
    return folder


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_noticed_and_the_one_before_is_used(two, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged") / "checkpoints"
    shutil.copytree(two, folder)
    victim = data.draw(st.sampled_from(files(folder / "2")), label="file")
    victim_before = victim.read_bytes()
    content = bytearray(victim_before)
    if content and data.draw(st.booleans(), label="flip"):
        bit = data.draw(st.integers(0, 8 * len(content) - 1), label="bit")
        content[bit // 8] ^= 1 << bit % 8
        victim.write_bytes(content)
    elif data.draw(st.booleans(), label="remove"):
        victim.unlink()
        content = None
    else:
        content = content[: data.draw(st.integers(0, len(content)), label="cut")]
        victim.write_bytes(content)
    notices = []
    epoch, arrays, history = Checkpoints(folder, notify=notices.append).newest()
    if victim.name == DIGESTS:
        # Without it the checkpoint is one that was not finished.
        assert (epoch, len(notices)) in ((2, 0), (1, 1), (1, 0))
    else:
        assert (epoch, len(notices)) == ((2, 0) if content == victim_before else (1, 1))
    assert history == [epoch]
    assert_same(arrays, {**ARRAYS, "epoch": np.array([epoch])})
    shutil.rmtree(folder.parent)


def test_after_damage_the_epoch_is_written_anew(two, tmp_path, notices):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    for path in files(folder / "2"):
        path.write_bytes(b"")
    checkpoints = Checkpoints(folder, notify=notices.append)
    assert checkpoints.newest().epoch == 1
    assert notices == [f"The checkpoint of epoch 2 in {folder} is damaged; the one before it is used."]
    checkpoints.save(2, ARRAYS, ["anew"])
    assert checkpoints.newest().history == ["anew"]


def test_names_and_digests_that_are_no_checkpoint_s_do_not_matter(two, tmp_path, notices):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    for name in ("007", "\u0667", "9" * 50):
        (folder / name).mkdir()
    (folder / "5").touch()
    (folder / "2" / DIGESTS).write_text("[" * 3000)
    assert Checkpoints(folder, notify=notices.append).newest().epoch == 1
    assert len(notices) == 1


def test_what_orbax_cannot_read_is_a_sentence(two, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    for path in files(folder / "2"):
        path.write_bytes(b"{}")
    digests = {str(path.relative_to(folder / "2")): hashlib.sha256(b"{}").hexdigest() for path in files(folder / "2")}
    digests.pop(DIGESTS)
    (folder / "2" / DIGESTS).write_text(json.dumps(digests))
    with pytest.raises(UserError, match="cannot be read") as error:
        Checkpoints(folder).newest()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [1, 2])
def test_the_one_before_goes_only_when_the_next_is_whole(tmp_path, monkeypatch, keep):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    checkpoints.save(1, ARRAYS, [1])
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.checkpoints._digests", lambda folder: 1 / 0)  # as if killed there
        with pytest.raises(UserError):
            checkpoints.save(2, ARRAYS, [2])
    assert checkpoints.newest().history == [1]
    checkpoints.save(2, ARRAYS, [2])
    assert checkpoints.newest().history == [2]


def test_one_that_was_half_removed_is_removed(tmp_path, notices, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1, notify=notices.append)
    checkpoints.save(1, ARRAYS, [1])
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.checkpoints.shutil.rmtree", lambda folder: 1 / 0)  # as if killed there
        with pytest.raises(UserError):
            checkpoints.save(2, ARRAYS, [2])
    assert (tmp_path / "1").is_dir()
    assert checkpoints.newest().history == [2]
    assert not (tmp_path / "1").exists()
    assert notices == []


def test_nothing_is_unpickled(two):
    for path in files(two):
        assert not path.read_bytes().startswith(b"\x80\x04")
        assert path.suffix not in (".pkl", ".pickle")


# --- runs go on from them ---


def results(epochs):
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in epochs]


def last_arrays(checkpoints, run):
    ((folder,),) = [[path for path in checkpoints._folder.iterdir() if path.name.startswith(f"seed-{run.seed}-")]]
    return checkpoints.of(folder.name).newest().arrays


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(lesson, dataset, tmp_path, stop):
    whole, parts = Checkpoints(tmp_path / "whole"), Checkpoints(tmp_path / "parts")
    expected = list(train_runs(lesson, dataset, [Run(3)], epochs=3, checkpoints=whole))
    for _ in zip(range(stop), train_runs(lesson, dataset, [Run(3)], epochs=3, checkpoints=parts), strict=False):
        pass
    found = list(train_runs(lesson, dataset, [Run(3)], epochs=3, checkpoints=parts))
    assert results(found) == results(expected)
    assert_same(last_arrays(parts, Run(3)), last_arrays(whole, Run(3)))


def test_a_group_of_runs_goes_on_together(dataset, tmp_path):
    runs = [Run(seed) for seed in range(5)]  # on four devices: two groups
    checkpoints = Checkpoints(tmp_path)
    expected = list(train_runs(LESSONS["dropout"], dataset, runs, epochs=2))
    for _ in zip(
        range(9), train_runs(LESSONS["dropout"], dataset, runs, epochs=2, checkpoints=checkpoints), strict=False
    ):
        pass
    found = list(train_runs(LESSONS["dropout"], dataset, runs, epochs=2, checkpoints=checkpoints))
    assert results(found) == results(expected)


def test_a_last_group_that_is_smaller_goes_on_by_itself(dataset, tmp_path):
    """A study trains only what is missing: its group of one was filled up to four, and on --resume it is not."""
    runs = [Run(seed) for seed in range(5)]
    checkpoints = Checkpoints(tmp_path)
    expected = list(train_runs(LESSONS["dropout"], dataset, runs, epochs=3))[-3:]
    for epoch in train_runs(LESSONS["dropout"], dataset, runs, epochs=3, checkpoints=checkpoints):
        if (epoch.run, epoch.number) == (Run(4), 2):
            break
    found = list(train_runs(LESSONS["dropout"], dataset, [Run(4)], epochs=3, checkpoints=checkpoints))
    assert results(found)[:2] == results(expected)[:2]
    assert found[2].test_loss == pytest.approx(expected[2].test_loss, rel=1e-5)


def test_runs_that_are_over_leave_their_end_or_nothing(dataset, tmp_path):
    for keep_last, left in ((True, ["2"]), (False, [])):
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
        assert [path.name for path in folder.glob("*/*") if path.name.isdecimal()] == left


@pytest.mark.parametrize(("every", "left"), [(2, ["2", "4", "5"]), (9, ["5"])])
def test_how_often_is_the_user_s(dataset, tmp_path, every, left):
    checkpoints = Checkpoints(tmp_path, every=every, keep=9)
    list(train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=5, checkpoints=checkpoints))
    assert sorted(path.name for path in tmp_path.glob("*/*") if path.name.isdecimal()) == left


def test_a_clock_that_jumps_back_changes_nothing(dataset, tmp_path, monkeypatch):
    expected = results(train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=3))
    now = itertools.count(2_000_000_000, -86_400)
    monkeypatch.setattr("time.time", lambda: float(next(now)))
    monkeypatch.setattr("time.time_ns", lambda: next(now) * 10**9)
    checkpoints = Checkpoints(tmp_path)
    for _ in zip(
        range(2), train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=3, checkpoints=checkpoints), strict=False
    ):
        pass
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
    assert json.dumps(once[0].as_json())
