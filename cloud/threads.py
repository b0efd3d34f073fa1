"""Work beside the main thread, in threads that neither a stop nor the end of the process waits for."""

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.1


def in_background(work: Callable[[], T], name: str) -> Future[T]:
    """Run `work` in a daemon thread, which an executor's are not."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised again by future.result()
            future.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return future


def result_of(future: Future[T], check: Callable[[], None]) -> T:
    """The result, or the error, of `future`; `check` is called while waiting and may raise."""
    while not future.done():
        check()
        try:
            future.exception(LOOK_SECONDS)
        except NotYet:
            continue
    return future.result()
