"""An iterator that runs ahead: order, errors, and that it never outlives its use."""

import threading
import time
from collections.abc import Iterator

import pytest

from trainer.background import in_background


def threads() -> int:
    return sum(thread.name == "loader" for thread in threading.enumerate())


def test_items_come_in_order():
    assert list(in_background(iter(range(1000)), 4, lambda: False)) == list(range(1000))
    assert threads() == 0


def test_it_runs_ahead_by_its_depth_and_no_further():
    made = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = in_background(items(), 3, lambda: False)
    assert next(ahead) == 0
    time.sleep(0.2)
    assert 3 <= len(made) <= 5
    ahead.close()
    assert threads() == 0


def test_an_error_comes_in_its_turn():
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("no more")

    ahead = in_background(items(), 8, lambda: False)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="no more"):
        next(ahead)


def test_a_stop_is_not_held_up_by_a_slow_source():
    released, stopping = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        released.wait(10)
        yield 2

    ahead = in_background(items(), 2, stopping.is_set)
    assert next(ahead) == 1
    threading.Timer(0.2, stopping.set).start()
    started = time.monotonic()
    assert list(ahead) == []
    assert time.monotonic() - started < 2
    released.set()


def test_an_error_that_a_stop_brought_about_is_not_raised():
    def items() -> Iterator[int]:
        raise RuntimeError("stopped while waiting")
        yield 1

    assert list(in_background(items(), 2, lambda: True)) == []


def test_the_source_is_closed_when_the_consumer_leaves():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    ahead = in_background(items(), 2, lambda: False)
    next(ahead)
    ahead.close()
    assert closed.wait(2)
