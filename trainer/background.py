"""An iterator that runs ahead of its consumer in a thread."""

import queue
from collections.abc import Callable, Generator, Iterator
from threading import Semaphore, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

WAIT_SECONDS = 0.1


class _End(Generic[T]):
    """What the thread leaves last: the error that ended it, if one did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def in_background(items: Iterator[T], depth: int, stopping: Callable[[], bool]) -> Generator[T, None, None]:
    """The items, up to `depth` of them made ahead. Ends early, without an error, once `stopping()` is true while
    waiting, so that a stop is not held up by a slow store. An error of `items` is raised here, in its turn.
    """
    made: queue.SimpleQueue[T | _End[T]] = queue.SimpleQueue()
    room = Semaphore(depth)
    closed = False

    def run() -> None:
        end: _End[T] = _End()
        try:
            for item in items:
                made.put(item)
                room.acquire()
                if closed:
                    break
        except BaseException as error:  # noqa: BLE001  it is raised again where the items are consumed
            end = _End(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            made.put(end)

    thread = Thread(target=run, name="loader", daemon=True)
    thread.start()
    burst, num_taken = max(1, depth // 2), 0
    try:
        while (item := _wait(made, stopping)) is not None:
            if isinstance(item, _End):
                if item.error is not None and not stopping():
                    raise item.error
                return
            num_taken += 1
            if num_taken % burst == 0:  # each waking of the thread costs the consumer a fight for the interpreter
                room.release(burst)
            yield item
    finally:
        closed = True
        room.release()
        thread.join(timeout=5 * WAIT_SECONDS)


def _wait(made: "queue.SimpleQueue[T | _End[T]]", stopping: Callable[[], bool]) -> T | _End[T] | None:
    """The next item; None when a stop came before it."""
    while True:
        try:
            return made.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            if stopping():
                return None
