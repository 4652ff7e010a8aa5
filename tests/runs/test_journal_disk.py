"""Journals on disks that are full or fail, and in folders that cannot be locked."""

import errno
import fcntl
import os

import pytest
from helpers import room_for
from helpers.journal import HEADER, header_in

from mnist_jax import UserError
from mnist_jax.runs.files import JOURNAL
from mnist_jax.runs.journal import Journal, open_study


@pytest.mark.parametrize("call", ["fcntl.flock", "os.fsync"])
def test_disk_error_on_resume_loses_nothing(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Journal(tmp_path, HEADER) as kept:
        kept.add({"seed": 0})
    before = (tmp_path / JOURNAL).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(UserError, match="cannot be written"):
            open_study(tmp_path, "name", header_in(jax="0.11"), resume=True)
    assert (tmp_path / JOURNAL).read_bytes().startswith(before)
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept) == [{"seed": 0}]


def test_invalid_file_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        open_study(tmp_path / ("x" * 300), "name", HEADER)


def test_unwritable_journal_is_reported(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with Journal(tmp_path, HEADER) as journal:
        journal.add({"seed": 0})
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(UserError, match="No space left"):
                journal.add({"seed": 1})
        journal.add({"seed": 2})
    with Journal(tmp_path, HEADER) as journal:
        assert list(journal) == [{"seed": 0}, {"seed": 2}]


def test_folder_in_place_of_the_journal_is_refused(tmp_path):
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        Journal(tmp_path, HEADER)


def test_header_not_fitting_on_disk_frees_the_folder(tmp_path):
    with room_for(100), pytest.raises(UserError, match=f"cannot be written \\({os.strerror(errno.EFBIG)}\\)"):
        open_study(tmp_path / "out", "name", HEADER)
    assert not list((tmp_path / "out").iterdir())
    with open_study(tmp_path / "out", "name", HEADER)[1]:
        pass


@pytest.mark.parametrize("room", [0, 1, 30])
def test_entry_not_fitting_on_disk_is_refused_and_earlier_ones_kept(tmp_path, room):
    with Journal(tmp_path, HEADER) as kept:
        kept.add({"seed": 0})
        size = (tmp_path / JOURNAL).stat().st_size
        with room_for(size + room), pytest.raises(UserError, match="cannot be written"):
            kept.add({"seed": 1})
        assert (tmp_path / JOURNAL).stat().st_size == size + room  # the half line is there
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept) == [{"seed": 0}]


def test_line_after_a_truncated_one_is_intact(tmp_path):
    with Journal(tmp_path, HEADER) as kept:
        with room_for((tmp_path / JOURNAL).stat().st_size + 10), pytest.raises(UserError):
            kept.add({"seed": 0})
        kept.add({"seed": 1})
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept) == [{"seed": 1}]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO], ids=errno.errorcode.get)
def test_study_works_without_locks_and_refusal_claims_nothing(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    said = []
    if number == errno.EIO:
        with pytest.raises(UserError, match="cannot be written"):
            open_study(tmp_path / "out", "name", HEADER, notify=said.append)
        assert JOURNAL not in [path.name for path in (tmp_path / "out").iterdir()]
        return
    for resume in (False, True):
        with open_study(tmp_path / "out", "name", HEADER, resume=resume, notify=said.append)[1] as kept:
            kept.add({"seed": 0})
    assert [path.name for path in (tmp_path / "out").iterdir()] == [JOURNAL]
    assert len(said) == 2
    assert "cannot be locked" in said[0]
