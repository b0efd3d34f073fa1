"""Work beside the main thread, in threads that neither a stop nor the end of the process waits for."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from threading import Thread, get_native_id
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.1
ASIDE_NICE, MAX_NICE = 10, 19


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


def step_aside() -> None:
    """Let other threads go before this one, and those it starts, where each has a priority of its own (Linux).

    Nor does it take a core from one that runs when it wakes up, which would take that one milliseconds.
    """
    if sys.platform == "linux":
        thread = get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(MAX_NICE, os.getpriority(os.PRIO_PROCESS, thread) + ASIDE_NICE))
        if os.sched_getscheduler(thread) == os.SCHED_OTHER:
            with suppress(OSError):  # some sandboxes know no other policy
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


def result_of(future: Future[T], check: Callable[[], None]) -> T:
    """The result, or the error, of `future`; `check` is called while waiting and may raise."""
    while not future.done():
        check()
        try:
            future.exception(LOOK_SECONDS)
        except NotYet:
            continue
    return future.result()
