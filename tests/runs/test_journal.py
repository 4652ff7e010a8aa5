import json
import os

import pytest
from helpers.journal import CHANGED, FIRST, HEADER, HERE, OLD, SECOND, header_in

from mnist_jax import UserError
from mnist_jax.data.files import replace_file
from mnist_jax.runs.files import CHECKPOINTS, JOURNAL, RESULTS
from mnist_jax.runs.journal import Journal, _digest, open_study


def test_added_entries_survive_a_restart(tmp_path):
    folder, journal = open_study(tmp_path / "study", "name", HEADER)
    with journal:
        journal.add({"seed": 0, "loss": [0.5, None]})
        journal.add({"seed": 1})
    again = {**HEADER, "config": {**HEADER["config"], "command": "second"}}
    found, journal = open_study(folder, "name", again, resume=True)
    with journal:
        assert found == folder
        assert list(journal) == [{"seed": 0, "loss": [0.5, None]}, {"seed": 1}]


@pytest.mark.parametrize("cut", [1, 2, 25, 39, 40, 41, 60])
def test_truncated_last_line_is_dropped(tmp_path, cut):
    with Journal(tmp_path, HEADER) as journal:
        journal.add({"seed": 0})
        journal.add({"seed": 1})
    *_, last = (whole := (tmp_path / JOURNAL).read_bytes()).splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(whole[:-cut])
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept) == [{"seed": 0}][: 1 if cut <= len(last) else 0]
        kept.add({"seed": 2})
    with Journal(tmp_path, HEADER) as kept:
        assert list(kept)[-1] == {"seed": 2}


def test_truncated_header_starts_a_new_journal(tmp_path):
    (tmp_path / JOURNAL).write_bytes(b'{"data": ')
    with Journal(tmp_path, HEADER) as journal:
        assert list(journal) == []
    assert json.loads((tmp_path / JOURNAL).read_text())["data"] == HEADER["data"]


def test_study_in_use_by_another_process_is_refused(tmp_path):
    folder, journal = open_study(tmp_path / "study", "name", HEADER)
    with journal, pytest.raises(UserError, match="Another process is at work"):
        open_study(folder, "name", HEADER, resume=True)
    with open_study(folder, "name", HEADER, resume=True)[1] as journal:
        journal.add({"seed": 0})


def test_existing_study_is_not_resumed_unasked(tmp_path):
    with open_study(tmp_path / "study", "name", HEADER)[1] as journal:
        journal.add({"seed": 0})
    before = (tmp_path / "study" / JOURNAL).read_bytes()
    with pytest.raises(UserError, match="already holds a run; continue it with --resume"):
        open_study(tmp_path / "study", "name", HEADER)
    assert (tmp_path / "study" / JOURNAL).read_bytes() == before


@pytest.mark.parametrize("out", ["nothing", None])
def test_resume_needs_an_existing_run(tmp_path, out):
    with pytest.raises(UserError, match="--out"):
        open_study(out and tmp_path / out, "name", HEADER, resume=True)
    assert not list(tmp_path.iterdir())


def test_study_failing_before_its_first_part_frees_the_folder(tmp_path):
    with pytest.raises(UserError), open_study(tmp_path, "name", HEADER)[1]:
        raise UserError("no")
    assert not list(tmp_path.iterdir())
    journal = open_study(tmp_path, "name", HEADER)[1]
    journal.add({"seed": 0})
    with pytest.raises(UserError), journal:
        raise UserError("no")
    assert (tmp_path / JOURNAL).exists()


def test_study_failing_before_its_first_part_can_be_resumed_again(tmp_path):
    with open_study(tmp_path, "name", HEADER)[1]:
        pass
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(UserError, match="no"), open_study(tmp_path, "name", HEADER, resume=True)[1]:
        raise UserError("no")
    assert (tmp_path / JOURNAL).read_bytes() == before


PARTS = [".results.json.1.part", ".README.md.4194304.part", ".report.html.77.part", ".learning_rates.png.9.part"]
NOT_OURS = ["results.json.1.part", ".results.json.part", ".results.json.01.part", ".results.json.1.part.gz", ".1.part"]
NOT_OURS += [".thesis.tex.1.part", ".Photo.png.1.part", ".a b.md.1.part", ".README.md.x.part", ".notes.md.1.part"]


def test_partial_files_of_a_killed_process_are_removed(tmp_path):
    Journal(tmp_path, HEADER).__exit__(None)
    for name in (*PARTS, *NOT_OURS):
        (tmp_path / name).touch()
    (tmp_path / ".README.md.5.part").mkdir()
    with pytest.raises(UserError, match="holds another study"):
        Journal(tmp_path, {**HEADER, "study": "ladder"})
    assert {*PARTS} < {path.name for path in tmp_path.iterdir()}  # of another study nothing is touched
    Journal(tmp_path, HEADER).__exit__(None)
    assert {path.name for path in tmp_path.iterdir()} == {JOURNAL, ".README.md.5.part", *NOT_OURS}


def test_partly_written_files_are_removed(tmp_path, monkeypatch):
    Journal(tmp_path, HEADER).__exit__(None)
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)  # a kill: nothing is cleaned up
    for name in ("results.json", "README.md", "reproduce_notebooks.png", "report.html"):
        with pytest.raises(ZeroDivisionError):
            replace_file(tmp_path / name, b"")
    assert len(list(tmp_path.glob(".*.part"))) == 4
    Journal(tmp_path, HEADER).__exit__(None)
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config": {"epochs": 5, "seeds": [0, 1]}}, "config.epochs is 3, not 5"),
        ({"data": {"sha256": "6"}}, "data.sha256 is 5, not 6"),
        ({"config": {"epochs": 3, "seeds": [0, 1], "quick": True}}, "config.quick is None, not True"),
    ],
)
def test_different_study_is_refused_with_the_difference(tmp_path, change, says):
    with Journal(tmp_path, HEADER):
        pass
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(UserError, match=says):
        Journal(tmp_path, {**HEADER, **change})
    assert (tmp_path / JOURNAL).read_bytes() == before


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "damage",
    [
        lambda line: b"",
        lambda line: line[:-1],
        lambda line: b"\x00" * len(line),
        lambda line: b"\xff" + line,
        lambda line: line.decode().encode("utf-16"),
        lambda line: b"[" * 100_000,
        lambda line: b"[1]",
        lambda line: b"null",
        lambda line: b"{}",
        lambda line: line.replace(b"0", b"1", 1),
        lambda line: line.replace(b'"seed": 0, ', b"").replace(b'"study": "train", ', b""),
    ],
    ids=[
        "empty",
        "cut",
        "zeros",
        "not UTF-8",
        "UTF-16",
        "deep",
        "list",
        "null",
        "no keys",
        "flipped digit",
        "lost key",
    ],
)
def test_damaged_line_is_refused_by_number(tmp_path, number, damage):
    with Journal(tmp_path, HEADER) as journal:
        journal.add({"seed": 0, "loss": 0.25})
        journal.add({"seed": 1, "loss": 0.25})
    lines = (tmp_path / JOURNAL).read_bytes().split(b"\n")
    lines[number - 1] = damage(lines[number - 1])
    (tmp_path / JOURNAL).write_bytes(damaged := b"\n".join(lines))
    with pytest.raises(UserError, match=f"Line {number} of .* is damaged"):
        Journal(tmp_path, HEADER)
    assert (tmp_path / JOURNAL).read_bytes() == damaged
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_another_kind_of_run_is_refused(tmp_path, resume):
    (tmp_path / RESULTS).write_text("precious")
    with pytest.raises(UserError, match="contains no run to resume" if resume else "already holds a run"):
        open_study(tmp_path, "name", HEADER, resume=resume)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_journal_without_header_is_refused(tmp_path):
    with Journal(tmp_path, HEADER) as kept:
        kept.add({"seed": 0})
    _, entry = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(entry)
    with pytest.raises(UserError, match="is damaged or was written by another version of this program"):
        Journal(tmp_path, HEADER)
    assert (tmp_path / JOURNAL).read_bytes() == entry


@pytest.mark.parametrize("lacks", ["study", "environment"])
def test_a_journal_of_another_version_is_refused(tmp_path, lacks):
    header = {key: value for key, value in HEADER.items() if key != lacks}
    (tmp_path / JOURNAL).write_text(json.dumps({**header, "digest": _digest(header)}) + "\n")
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(UserError, match="was written by another version of this program; choose another folder"):
        open_study(tmp_path, "name", HEADER, resume=True)
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_unidentified_checkpoints_are_not_resumed(tmp_path):
    (tmp_path / JOURNAL).touch()
    (tmp_path / CHECKPOINTS).mkdir()
    with pytest.raises(UserError, match="does not describe"):
        open_study(tmp_path, "name", HEADER, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINTS, JOURNAL]


def test_changed_environment_is_reported_and_recorded(tmp_path):
    said = []
    Journal(tmp_path, HEADER, notify=said.append).__exit__(None)
    assert said == []
    for step, (environment, resumed_in) in enumerate(
        [
            ({"jax": "0.11"}, ["0.11"]),
            ({"jax": "0.11"}, ["0.11"]),
            ({"jax": "0.12"}, ["0.11", "0.12"]),
            ({}, ["0.11", "0.12"]),
        ]
    ):
        now = header_in(**environment)
        with Journal(tmp_path, now, notify=said.append) as kept:
            assert len(list(kept)) == step
            kept.add({"seed": step})
        assert kept.header["environment"] == HERE
        assert [other["jax"] for other in kept.header["resumed_in"]] == resumed_in
    assert [sentence.partition(":")[0] for sentence in said] == [
        f"This study is resumed in another environment (jax {jax} instead of 0.10)" for jax in ("0.11", "0.11", "0.12")
    ]


@pytest.mark.parametrize(
    ("before", "after", "words", "is_recorded"),
    [
        (FIRST, FIRST, None, False),
        (FIRST, {**FIRST, "lock_sha256": "2"}, None, False),
        (FIRST, SECOND, "mnist_jax 0.1.0, commit 111111111111; now mnist_jax 0.1.0, commit 222222222222", True),
        (FIRST, {**FIRST, "mnist_jax": "0.2.0"}, "now mnist_jax 0.2.0, commit 111111111111", True),
        (FIRST, CHANGED, "now mnist_jax 0.1.0, commit 111111111111, with uncommitted changes", True),
        (CHANGED, FIRST, "with uncommitted changes; now mnist_jax 0.1.0, commit 111111111111)", True),
        (CHANGED, CHANGED, "with uncommitted changes; now mnist_jax 0.1.0", False),
        (FIRST, {**FIRST, "commit": None, "dirty": None}, "now mnist_jax 0.1.0)", True),
        (OLD, FIRST, None, True),
        (OLD, CHANGED, None, True),
    ],
)
def test_program_that_may_have_changed_is_reported_once(tmp_path, before, after, words, is_recorded):
    said = []
    Journal(tmp_path, header_in(**before)).__exit__(None)
    for now in (after, after):
        with Journal(tmp_path, header_in(**now), notify=said.append) as kept:
            assert kept.header.get("resumed_in", []) == ([{**HERE, **after}] if is_recorded else [])
    assert len(said) == (0 if words is None else 2)  # for each resume
    for sentence in said:
        assert sentence.startswith("The program may have changed since this study was started (then mnist_jax 0.1.0, ")
        assert words in sentence
        assert "None" not in sentence


@pytest.mark.parametrize("changed", ["backend", "devices", "processes"])
def test_resume_on_other_devices_reports_restarted_runs(tmp_path, changed):
    before, after = header_in(backend="cpu", devices=2, processes=1), header_in(backend="cpu", devices=2, processes=1)
    after["environment"][changed] = "other"
    said = []
    for now in (before, before, after, after, before):  # back on the first ones, those of the second are lost
        Journal(tmp_path, now, notify=said.append).__exit__(None)
    again = "The devices or processes have changed: runs under way may start again from epoch 1."
    assert [sentence == again for sentence in said] == [False, True, False, True, True]


@pytest.mark.parametrize("before", [{"where": "/mnt/first"}, {"where": None}, {}])
@pytest.mark.parametrize("after", [{"where": "/mnt/moved"}, {"where": None}, {}])
def test_irrelevant_settings_are_not_compared(tmp_path, before, after):
    Journal(tmp_path, {**HEADER, "data": {"sha256": "5", **before}}).__exit__(None)
    written = json.loads((tmp_path / JOURNAL).read_text())
    assert written["data"] == {"sha256": "5", **before}
    assert written["config"]["command"] == "first"
    again = {**header_in(python="3.12.0"), "config": {**HEADER["config"], "command": "second"}}
    again["data"] = {"sha256": "5", **after}
    with Journal(tmp_path, again, notify=pytest.fail) as kept:
        assert "resumed_in" not in kept.header
        assert kept.header["data"] == again["data"]
