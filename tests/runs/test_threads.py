"""Iterators that compute at the same time: who runs when, and what becomes of the others after an error."""

import functools
import threading
import time

import pytest

from mnist_jax.runs.threads import call_in_turn

SECONDS = 10  # until a test that hangs fails


def test_iterators_compute_at_the_same_time():
    both = threading.Barrier(2, timeout=SECONDS)

    def computing():
        for _ in range(3):
            both.wait()
            yield int

    call_in_turn([computing(), computing()])


def test_iterator_waits_for_each_yielded_call():
    returned, threads = [[], []], set()

    def keep(number, step):
        time.sleep(0.01)
        threads.add(threading.current_thread())
        returned[number].append(step)

    def computing(number):
        for step in range(5):
            assert returned[number] == list(range(step))
            yield functools.partial(keep, number, step)
        assert returned[number] == list(range(5))

    call_in_turn([computing(0), computing(1)])
    assert returned == [list(range(5))] * 2
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("fails", ["iterator", "call"])
def test_after_an_error_the_others_stop_at_their_next_yield(fails):
    failed, steps = threading.Event(), []

    def failing():
        steps.append("failing")
        if fails == "iterator":
            failed.set()
            raise ZeroDivisionError
        yield fail

    def fail():
        failed.set()
        raise ZeroDivisionError

    def computing():
        assert failed.wait(SECONDS)
        time.sleep(0.1)  # an epoch that ends after the error
        steps.append("under way")
        yield lambda: steps.append("called")
        steps.append("next")

    with pytest.raises(ZeroDivisionError):
        call_in_turn([failing(), computing()])
    assert steps == ["failing", "under way"]
