import json

import pytest

from mnist_jax import UserError
from mnist_jax.journal import JOURNAL, Journal, open_study
from mnist_jax.results import RESULTS

HEADER = {"data": {"sha256": "5"}, "config": {"epochs": 3, "seeds": (0, 1), "command": "first"}}


def test_what_was_added_is_there_after_a_new_start(tmp_path):
    folder, journal = open_study(tmp_path / "study", "name", HEADER)
    journal.add({"seed": 0, "loss": [0.5, None]})
    journal.add({"seed": 1})
    again = {**HEADER, "config": {**HEADER["config"], "command": "second"}}
    assert open_study(folder, "name", again)[0] == folder
    assert list(Journal(folder, again)) == [{"seed": 0, "loss": [0.5, None]}, {"seed": 1}]


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_last_line_cut_short_is_dropped(tmp_path, cut):
    journal = Journal(tmp_path, HEADER)
    journal.add({"seed": 0})
    journal.add({"seed": 1})
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole[:-cut])
    kept = Journal(tmp_path, HEADER)
    assert list(kept) == [{"seed": 0}][: 1 if cut <= len(b'{"seed": 1}\n') else 0]
    kept.add({"seed": 2})
    assert list(Journal(tmp_path, HEADER))[-1] == {"seed": 2}


def test_a_header_cut_short_starts_anew(tmp_path):
    (tmp_path / JOURNAL).write_bytes(b'{"data": ')
    assert list(Journal(tmp_path, HEADER)) == []
    assert json.loads((tmp_path / JOURNAL).read_text())["data"] == HEADER["data"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config": {"epochs": 5, "seeds": [0, 1]}}, "config.epochs is 3, not 5"),
        ({"data": {"sha256": "6"}}, "data.sha256 is 5, not 6"),
        ({"config": {"epochs": 3, "seeds": [0, 1], "quick": True}}, "config.quick is None, not True"),
    ],
)
def test_another_study_is_refused_and_says_why(tmp_path, change, says):
    Journal(tmp_path, HEADER)
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


def test_a_journal_that_cannot_be_written_says_so(tmp_path):
    journal = Journal(tmp_path, HEADER)
    (tmp_path / JOURNAL).unlink()
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        journal.add({"seed": 0})
    assert list(journal) == []
