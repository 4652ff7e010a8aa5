"""From the start of a process to the test accuracy of its first epoch."""

import dataclasses
import sys

import pytest
from timing import starts

from mnist_jax import UserError, data
from mnist_jax.cli.arguments import DataArguments

TRAINED = """
import os, pathlib, sys
out = pathlib.Path(sys.argv[2])
out.mkdir()
for name, when in (("runs.jsonl", 1002.5), ("later", 2000)):
    (out / name).touch()
    os.utime(out / name, (when, when))
"""


def test_date_of_the_journal_is_when_the_epoch_was_shown(tmp_path, monkeypatch):
    """The clock says 1,000 when the process starts; runs.jsonl is dated 1,002.5, other files later."""
    monkeypatch.setattr(starts.time, "time", lambda: 1000.0)
    seconds, peak = starts.first_epoch([sys.executable, "-c", TRAINED], tmp_path / "out", tmp_path / "cache")
    assert seconds == 2.5
    assert peak > 2**20


@pytest.mark.parametrize("code", [f"{TRAINED}raise SystemExit('no room')", "print('no room\\n')", "print()"])
def test_failed_start_gets_its_last_line(tmp_path, code):
    says = "no room" if "no room" in code else "it printed nothing"
    with pytest.raises(UserError, match=rf"failed \({says}\); --start-repeats 0"):
        starts.first_epoch([sys.executable, "-c", code], tmp_path / "out", tmp_path / "cache")


def test_starts_report_median_times_and_peak_memory(monkeypatch):
    found = iter([(9.0, 5), (1.0, 8), (5.0, 6), (3.0, 4), (7.0, 7), (2.0, 3)])  # cold and warm in turns
    monkeypatch.setattr(starts, "first_epoch", lambda *_, **__: next(found))
    assert starts.start_times(["mlp"], [], 3, iter) == {
        "first_epoch_seconds": {"cold": {"mlp": 7.0}, "warm": {"mlp": 2.0}},
        "all_first_epoch_seconds": {"cold": {"mlp": [9.0, 5.0, 7.0]}, "warm": {"mlp": [1.0, 3.0, 2.0]}},
        "peak_memory_bytes": {"mlp": 8},
    }


@pytest.mark.slow
def test_starts_of_a_lesson(toy_folder, tmp_path, monkeypatch):
    """A cold and a warm start, each an epoch from the command line; what the cold one compiled serves the warm one."""
    monkeypatch.setattr(starts.tempfile, "tempdir", str(tmp_path))
    caches = []

    def first_epoch(command, out, cache, first_epoch=starts.first_epoch):
        caches.append(sum(path.is_file() for path in cache.rglob("*")))
        return first_epoch(command, out, cache)

    monkeypatch.setattr(starts, "first_epoch", first_epoch)
    options = starts.data_options(data.load(str(toy_folder), "notebooks"), DataArguments(data=str(toy_folder)))
    found = starts.start_times(["mlp"], options, 1, iter)
    for kind in ("cold", "warm"):
        (seconds,) = found["all_first_epoch_seconds"][kind]["mlp"]
        assert found["first_epoch_seconds"][kind] == {"mlp": seconds}
        assert 0 < seconds < 600
    assert caches[0] == 0 < caches[1]
    assert found["peak_memory_bytes"]["mlp"] > 2**20
    assert list(tmp_path.iterdir()) == [toy_folder]


def test_starts_load_the_data_that_were_found(toy_folder, tmp_path):
    folder = data.load(str(toy_folder), "notebooks")
    sample = dataclasses.replace(folder, source="sample")
    assert starts.data_options(folder, DataArguments(data="toy")) == ["--split", "notebooks", "--data", "toy"]
    expected = ["--split", "notebooks", "--data", "sample", "--data-dir", str(tmp_path)]
    assert starts.data_options(sample, DataArguments(data_dir=tmp_path)) == expected
