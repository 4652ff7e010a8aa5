"""Runs side by side, and what does not fit."""

from types import SimpleNamespace

import pytest
from jax.errors import JaxRuntimeError
from timing import side_by_side
from timing.limits import bytes_per_step
from timing.side_by_side import side_by_side_times

from mnist_jax import LESSONS


@pytest.fixture
def started(monkeypatch):
    """Nothing is trained, and an epoch takes 2 seconds; a list of (lesson, runs, runs on each device)."""
    found = []

    def start(lesson, data, runs, placement):
        found.append((lesson, len(runs), placement.side_by_side))
        return SimpleNamespace(memory=lambda _: 1_000 * len(runs)), None

    monkeypatch.setattr(side_by_side, "start", start)
    monkeypatch.setattr(side_by_side, "ours", lambda *_: iter(()))
    monkeypatch.setattr(side_by_side, "compile_seconds", lambda *_: 1.0)
    monkeypatch.setattr(side_by_side, "elapsed", lambda _: 2.0)
    return found


def test_traffic_is_that_of_one_device(dataset, started):
    """Three epochs of three steps on four devices, at 2 seconds per epoch."""
    mlp = LESSONS["mlp"]
    found = side_by_side_times({"mlp": mlp}, dataset, [2, 10], 3, iter, pytest.fail)
    assert started == [(mlp, 2, 1), (mlp, 10, 3)]
    assert [entry["devices"] for entry in found] == [2, 4]
    moved = 3 * 3 * bytes_per_step(mlp)
    for entry, runs_per_device in zip(found, (1, 2.5), strict=True):
        assert (entry["seconds"], entry["seconds_per_replica"]) == (6.0, 6.0 / entry["replicas"])
        assert entry["nets_per_second"] == entry["replicas"] / 20  # a net is 10 epochs
        assert entry["memory_bytes"] == 1_000 * entry["replicas"]
        assert entry["gigabytes_per_second"] == pytest.approx(runs_per_device * moved / 6e9)


@pytest.mark.parametrize("fails", ["start", "compile_seconds", "elapsed"])
def test_out_of_memory_ends_the_lesson_series(dataset, started, monkeypatch, fails):
    """Wherever that shows: 4 runs of mlp are too many, of adam they are not."""
    works = getattr(side_by_side, fails)

    def refused(*arguments):
        found = works(*arguments)
        if started[-1][:2] == (LESSONS["mlp"], 4):
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17592186044416 bytes.")
        return found

    monkeypatch.setattr(side_by_side, fails, refused)
    lessons, notices = {name: LESSONS[name] for name in ("mlp", "adam")}, []
    found = side_by_side_times(lessons, dataset, [1, 4, 2, 8], 1, iter, notices.append)
    assert [(entry["lesson"], entry["replicas"]) for entry in found] == [
        *(("mlp", count) for count in (1, 2)),
        *(("adam", count) for count in (1, 4, 2, 8)),
    ]
    assert notices == ["4 runs of mlp side by side do not fit in the device's memory."]


def test_any_other_error_of_the_device_is_not_hidden(dataset, started, monkeypatch):
    def refused(*_):
        raise JaxRuntimeError("INTERNAL: a kernel failed")

    monkeypatch.setattr(side_by_side, "elapsed", refused)
    with pytest.raises(JaxRuntimeError, match="a kernel failed"):
        side_by_side_times({"mlp": LESSONS["mlp"]}, dataset, [1], 1, iter, pytest.fail)
