"""Epochs timed in turns, and compilation without caches."""

import jax
import jax.numpy as jnp
import pytest
from timing import epochs

from mnist_jax import LESSONS


@pytest.fixture
def clock(monkeypatch):
    """A list whose only element is the time."""
    now = [0.0]
    monkeypatch.setattr(epochs, "perf_counter", lambda: now[0])
    return now


def test_all_are_timed_once_per_repeat_after_a_warm_up(clock):
    order, parts = [], []

    def contestant(name, *seconds):
        for each in seconds:
            order.append(name)
            clock[0] += each
            yield

    def progress(known):
        for part in known:
            parts.append(part)
            yield part
            clock[0] += 100  # what is shown takes time that does not count

    contestants = {
        "mlp": {"floor": contestant("floor", 9, 1, 2), "ours": contestant("ours", 9, 3, 4)},
        "adam": {"floor": contestant("floor", 9, 5, 6), "ours": contestant("ours", 9, 7, 8)},
    }
    assert epochs.in_turns(contestants, 2, progress) == {
        "floor": {"mlp": [1, 2], "adam": [5, 6]},
        "ours": {"mlp": [3, 4], "adam": [7, 8]},
    }
    assert order == ["floor", "ours"] * 6
    assert parts == [(what, lesson) for what in ("warm-up", "repeat 1", "repeat 2") for lesson in ("mlp", "adam")]


def test_seconds_are_of_a_whole_epoch_and_of_one_run(dataset, clock, monkeypatch):
    """A peer trains on 32 of the 66 examples, ours on all; four devices train four runs, three cores three."""

    def lasting(seconds):
        while True:
            clock[0] += seconds
            yield

    def peer(lesson, examples):
        return lasting(examples / 16)

    monkeypatch.setattr(epochs, "start", lambda *_: ())
    monkeypatch.setattr(epochs, "ours", lambda: lasting(3))
    monkeypatch.setattr(epochs, "compile_seconds", lambda: 5)
    monkeypatch.setattr(epochs, "cores", lambda: 3)
    peers = dict.fromkeys(["ours_split", "ours_per_core", "torch_in_memory", "torch_per_core"], peer)
    found = epochs.epoch_times({"mlp": LESSONS["mlp"]}, dataset, 2, peers, 0.4, iter, {"product": lasting(7)})
    whole = 66 / 16
    seconds = {"ours_split": whole, "ours_per_core": whole / 4, "torch_in_memory": whole, "torch_per_core": whole / 3}
    assert found["peer_epoch_seconds"] == {name: {"mlp": pytest.approx(each)} for name, each in seconds.items()}
    assert found["ratio_to_ours"] == {name: {"mlp": pytest.approx(each / 3)} for name, each in seconds.items()}
    assert found["ratio_per_core"] == {"mlp": pytest.approx(4 / 3)}
    assert (found["epoch_seconds"], found["compile_seconds"]) == ({"mlp": 3}, {"mlp": 5})
    assert found["seconds"]["product"] == {"mlp": [7, 7]}
    del peers["torch_per_core"]
    found = epochs.epoch_times({"mlp": LESSONS["mlp"]}, dataset, 2, peers, 0.4, iter, {})
    assert found["ratio_per_core"] == {}


def test_ratios_are_paired():
    """Both are slower in the second repeat: the ratio of medians would be another."""
    ratios = epochs.paired_ratios({"mlp": [2.0, 40.0, 6.0]}, {"mlp": [1.0, 10.0, 4.0]})
    assert ratios == {"mlp": 2.0}
    assert epochs.medians({"mlp": [2.0, 40.0, 6.0]}) == {"mlp": 6.0}


@pytest.mark.parametrize(("share", "examples"), [(1.0, 70), (0.5, 64), (0.01, 32), (0.95, 70)])
def test_part_of_epoch_is_whole_batches(share, examples):
    assert epochs.part_of_epoch(70, 32, share) == examples


def test_compilation_is_not_served_from_a_cache():
    class Small:
        epoch = staticmethod(jax.jit(lambda numbers: 3 * numbers + 1))

        def compile(self, states):
            self.epoch.lower(states).compile()

    trainer, states, events = Small(), jnp.zeros(5), []
    trainer.compile(states)  # the tests keep compiled programs, so from here on a cache has it

    def listen(name, *_, **__):
        events.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.monitoring.register_event_listener(listen)
    try:
        for cached in (False, False, True):
            events.clear()
            if cached:  # as it was before
                jax.clear_caches()
                trainer.compile(states)
            else:
                assert epochs.compile_seconds(trainer, states) > 0
            assert {f"/jax/core/compile/{what}_duration" for what in ("jaxpr_trace", "backend_compile")} <= set(events)
            for event in ("compile_requests_use_cache", "cache_hits"):
                assert (f"/jax/compilation_cache/{event}" in events) == cached
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        jax.monitoring.unregister_event_listener(listen)
