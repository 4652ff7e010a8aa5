"""Memory traffic of a step, and of runs side by side."""

import pytest
from timing import side_by_side
from timing.side_by_side import bytes_per_step, copy_bandwidth, side_by_side_times

from mnist_jax import LESSONS


def test_bytes_per_step():
    """Weights read twice and written, gradients written and read; momentum is a number a weight, Adam's state two."""
    mlp = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert bytes_per_step(LESSONS["mlp"]) == 4 * mlp * (5 + 2)
    assert bytes_per_step(LESSONS["adam"]) == 4 * (mlp + 2 * (512 + 256)) * (5 + 4)


def test_traffic_is_that_of_one_device(dataset, monkeypatch):
    """On four devices three epochs of three steps, 2 seconds an epoch."""
    placements = []

    def start(lesson, data, runs, placement):
        placements.append((len(runs), placement.side_by_side))
        return None, None

    monkeypatch.setattr(side_by_side, "start", start)
    monkeypatch.setattr(side_by_side, "ours", lambda *_: iter(()))
    monkeypatch.setattr(side_by_side, "compile_seconds", lambda *_: 1.0)
    monkeypatch.setattr(side_by_side, "elapsed", lambda _: 2.0)
    monkeypatch.setattr(side_by_side, "copy_bandwidth", lambda: 1e9)
    found = side_by_side_times({"mlp": LESSONS["mlp"]}, dataset, [2, 10], 3, iter)["replicas"]
    assert placements == [(2, 1), (10, 3)]
    assert [entry["devices"] for entry in found] == [2, 4]
    moved = 3 * 3 * bytes_per_step(LESSONS["mlp"])
    for entry, runs_per_device in zip(found, (1, 2.5), strict=True):
        assert (entry["seconds"], entry["seconds_per_replica"]) == (6.0, 6.0 / entry["replicas"])
        assert entry["gigabytes_per_second"] == entry["share_of_copy"] == pytest.approx(runs_per_device * moved / 6e9)


def test_a_copy_reads_and_writes(monkeypatch):
    monkeypatch.setattr(side_by_side, "COPIED", 2**20)
    monkeypatch.setattr(side_by_side, "elapsed", lambda _: 0.5)
    assert copy_bandwidth() == 2**22
