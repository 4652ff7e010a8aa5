import json

import pytest

from mnist_jax import UserError
from mnist_jax.journal import JOURNAL, Journal, open_study
from mnist_jax.results import RESULTS

HEADER = {"data": {"sha256": "5"}, "config": {"epochs": 3, "seeds": (0, 1), "command": "first"}}


def test_what_was_added_is_there_after_a_new_start(tmp_path):
    folder, journal = open_study(tmp_path / "study", "name", HEADER)
    with journal:
        journal.add({"seed": 0, "loss": [0.5, None]})
        journal.add({"seed": 1})
    again = {**HEADER, "config": {**HEADER["config"], "command": "second"}}
    found, journal = open_study(folder, "name", again, resume=True)
    with journal:
        assert found == folder
        assert list(journal) == [{"seed": 0, "loss": [0.5, None]}, {"seed": 1}]


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_last_line_cut_short_is_dropped(tmp_path, cut):
    with Journal(tmp_path, HEADER) as journal:
        journal.add({"seed": 0})
        journal.add({"seed": 1})
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole[:-cut])
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept) == [{"seed": 0}][: 1 if cut <= len(b'{"seed": 1}\n') else 0]
        kept.add({"seed": 2})
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept)[-1] == {"seed": 2}


def test_a_header_cut_short_starts_anew(tmp_path):
    (tmp_path / JOURNAL).write_bytes(b'{"data": ')
    with Journal(tmp_path, HEADER) as journal:
        assert list(journal) == []
    assert json.loads((tmp_path / JOURNAL).read_text())["data"] == HEADER["data"]


def test_a_study_that_another_process_works_on_is_refused(tmp_path):
    folder, journal = open_study(tmp_path / "study", "name", HEADER)
    with journal, pytest.raises(UserError, match="Another process is at work"):
        open_study(folder, "name", HEADER, resume=True)
    with open_study(folder, "name", HEADER, resume=True)[1] as journal:
        journal.add({"seed": 0})


def test_what_is_there_is_not_gone_on_with_unasked(tmp_path):
    with open_study(tmp_path / "study", "name", HEADER)[1] as journal:
        journal.add({"seed": 0})
    before = (tmp_path / "study" / JOURNAL).read_bytes()
    with pytest.raises(UserError, match="already holds a run; go on with it with --resume"):
        open_study(tmp_path / "study", "name", HEADER)
    assert (tmp_path / "study" / JOURNAL).read_bytes() == before


@pytest.mark.parametrize("out", ["nothing", None])
def test_there_must_be_something_to_go_on_with(tmp_path, out):
    with pytest.raises(UserError, match="--out"):
        open_study(out and tmp_path / out, "name", HEADER, resume=True)
    assert not list(tmp_path.iterdir())


def test_a_study_that_fails_before_its_first_part_leaves_the_folder_free(tmp_path):
    with pytest.raises(UserError), open_study(tmp_path, "name", HEADER)[1]:
        raise UserError("no")
    assert not list(tmp_path.iterdir())
    journal = open_study(tmp_path, "name", HEADER)[1]
    journal.add({"seed": 0})
    with pytest.raises(UserError), journal:
        raise UserError("no")
    assert (tmp_path / JOURNAL).exists()


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        open_study(tmp_path / ("x" * 300), "name", HEADER)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config": {"epochs": 5, "seeds": [0, 1]}}, "config.epochs is 3, not 5"),
        ({"data": {"sha256": "6"}}, "data.sha256 is 5, not 6"),
        ({"config": {"epochs": 3, "seeds": [0, 1], "quick": True}}, "config.quick is None, not True"),
    ],
)
def test_another_study_is_refused_and_says_why(tmp_path, change, says):
    with Journal(tmp_path, HEADER):
        pass
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(UserError, match=says):
        Journal(tmp_path, {**HEADER, **change})
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / JOURNAL).write_bytes(b"junk\n")
    with pytest.raises(UserError, match="cannot be read"):
        Journal(tmp_path, HEADER)


def test_a_folder_with_another_kind_of_run_is_refused(tmp_path):
    (tmp_path / RESULTS).write_text("precious")
    with pytest.raises(UserError, match="already holds a run"):
        open_study(tmp_path, "name", HEADER)
    assert (tmp_path / RESULTS).read_text() == "precious"


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
