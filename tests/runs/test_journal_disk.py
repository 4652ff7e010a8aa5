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
def test_an_error_of_the_disk_when_it_is_resumed_takes_nothing_away(tmp_path, monkeypatch, call):
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


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        open_study(tmp_path / ("x" * 300), "name", HEADER)


def test_a_journal_that_cannot_be_written_says_so(tmp_path, monkeypatch):
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


def test_a_folder_in_the_journal_s_place_is_refused(tmp_path):
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        Journal(tmp_path, HEADER)


def test_a_header_that_does_not_fit_on_the_disk_leaves_the_folder_free(tmp_path):
    with room_for(100), pytest.raises(UserError, match=f"cannot be written \\({os.strerror(errno.EFBIG)}\\)"):
        open_study(tmp_path / "out", "name", HEADER)
    assert not list((tmp_path / "out").iterdir())
    with open_study(tmp_path / "out", "name", HEADER)[1]:
        pass


@pytest.mark.parametrize("room", [0, 1, 30])
def test_an_entry_that_does_not_fit_on_the_disk_is_one_sentence_and_nothing_before_is_lost(tmp_path, room):
    with Journal(tmp_path, HEADER) as kept:
        kept.add({"seed": 0})
        size = (tmp_path / JOURNAL).stat().st_size
        with room_for(size + room), pytest.raises(UserError, match="cannot be written"):
            kept.add({"seed": 1})
        assert (tmp_path / JOURNAL).stat().st_size == size + room  # the half line is there
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept) == [{"seed": 0}]


def test_after_half_a_line_the_next_one_is_whole(tmp_path):
    with Journal(tmp_path, HEADER) as kept:
        with room_for((tmp_path / JOURNAL).stat().st_size + 10), pytest.raises(UserError):
            kept.add({"seed": 0})
        kept.add({"seed": 1})
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept) == [{"seed": 1}]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO], ids=errno.errorcode.get)
def test_without_locks_a_study_works_and_a_refused_one_claims_nothing(tmp_path, monkeypatch, number):
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
