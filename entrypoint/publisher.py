"""Publishing in the background: one state at a time, and again while a store fails, the newest one that waits."""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Generic, TypeVar

from cloud.errors import StoreError, UrlError
from cloud.threads import step_aside

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0
HURRIED_PAUSE_SECONDS = 1.0
HICCUP_SECONDS = 10.0
"""A store that fails no longer than this holds training up rather than have a state replaced by a newer one."""

LOOK_SECONDS = 0.1

BURST_SECONDS, REST_SECONDS = 100e-6, 2e-3
"""A step that waits for the interpreter has it again after a burst, and few steps meet one. Of steps of 1.5 ms the
slowest in a hundred take 1.07 of the quiet ones' time, 1.8 without rests; and publishing 1 GB 1.8 s, 1.1 without."""

MAX_REST_SECONDS = 0.5
"""All rests of one item together, beside as long as was worked on it."""

# UrlError: a bucket or folder that went away may come back. A claim that was lost, or a state that is not finite, not.
MAY_MEND = (StoreError, UrlError, ConnectionError, TimeoutError)

# Not the global generator, whose numbers are the task's.
_random = random.Random()


class Publisher(Generic[T]):
    """A thread that publishes what it is offered; at any time one item waits at most, beside the one in flight.

    What fails with an error that may mend is tried again after growing pauses, the newest item only, until it has
    failed for `limit_seconds`; then `give_up` is told, and what it returns is raised by the next `check` or `drain`.
    Any other error of `publish` is raised there at once. `seconds_left()` bounds all that too.
    """

    def __init__(
        self,
        publish: Callable[[T], None],
        give_up: Callable[[T, Exception], BaseException],
        warn: Callable[[Exception], None],
        *,
        limit_seconds: float,
        seconds_left: Callable[[], float] = lambda: math.inf,
        one_by_one: bool = False,
    ) -> None:
        """`warn` is told once when a store begins to fail. `one_by_one`: while it works, nothing waits in line."""
        self._one_by_one = one_by_one
        self._publish, self._give_up, self._warn = publish, give_up, warn
        self._limit_seconds, self._seconds_left = limit_seconds, seconds_left
        self._deadline = math.inf
        self._worked = 0.0
        self.rested_seconds = 0.0
        """How long the item in flight, or the last one, was not worked on for the sake of others."""
        self._is_awaited = False
        self._changed = Condition()  # its lock guards all below
        self._waiting: T | None = None
        self._spare: T | None = None
        self._thread: Thread | None = None
        self._began: float | None = None
        self._failing_since: float | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._this_pause_seconds = self._paused_at = 0.0
        self._error: BaseException | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing left to publish."""
        return self._thread is None

    @property
    def has_failed(self) -> bool:
        """Whether what was tried last failed."""
        return self._failing_since is not None

    @property
    def is_failing(self) -> bool:
        """Whether the store has been failing for longer than a moment, so that nobody should wait for it."""
        since = self._failing_since
        return since is not None and time.monotonic() - since > HICCUP_SECONDS

    @property
    def seconds_in_flight(self) -> float | None:
        """How long the item in flight has been worked on, without rests; None when nothing is in flight."""
        began = self._began
        return None if began is None else time.monotonic() - began - self.rested_seconds

    @property
    def num_waiting(self) -> int:
        """How many items wait behind the one in flight, or to be taken up: none or one."""
        return int(self._waiting is not None)

    def drop_waiting(self) -> None:
        """Give up the item that waits, if one does."""
        with self._changed:
            self._waiting = None

    def room(self) -> T | None:
        """Wait until an item may be offered; returns an earlier one that nobody needs any more, if there is one.

        Only while the store is failing an item that waits is given up for a newer one.
        """
        with self._changed, self._awaited():
            while self._is_full() and not self.is_failing:
                self._changed.wait(LOOK_SECONDS)
            waiting, self._waiting = self._waiting, None
            spare, self._spare = self._spare, None
            return waiting or spare

    def _is_full(self) -> bool:
        return self._thread is not None and (self._one_by_one or self._waiting is not None)

    def offer(self, item: T) -> None:
        """Publish `item` after the one in flight."""
        with self._changed:
            if self._waiting is not None:  # it failed after `room`
                self._spare = self._waiting
            self._waiting, self._error = item, None
            if self._thread is None:
                self._thread = Thread(target=self._run, name="publisher", daemon=True)
                self._thread.start()

    def check(self) -> None:
        """Raise what publishing ended with."""
        if self._error is not None:
            raise self._error

    def drain(self) -> None:
        """Until all is published; raises what publishing ended with."""
        self.settle()
        self.check()

    def settle(self) -> None:
        """Until nothing is being published any longer, whatever came of it."""
        with self._changed, self._awaited():
            while self._thread is not None:
                self._changed.wait(LOOK_SECONDS)

    @contextmanager
    def _awaited(self) -> Iterator[None]:
        self._is_awaited = True
        try:
            yield
        finally:
            self._is_awaited = False

    def rest(self) -> None:
        """For `publish` to call between small pieces of its work: now and then, leave the interpreter to others.

        Not while somebody waits for what is published, or there is not all the time in the world.
        """
        if time.thread_time() - self._worked < BURST_SECONDS or self._is_awaited or self._is_hurried():
            return
        began = time.monotonic()
        if self.rested_seconds < MAX_REST_SECONDS + (self.seconds_in_flight or 0.0):
            time.sleep(REST_SECONDS)
        self.rested_seconds += time.monotonic() - began
        self._worked = time.thread_time()

    def hurry(self, seconds: float) -> None:
        """Give up sooner: after so many seconds from now; with 0 each item is tried once.

        What was given up before is no longer an error: a newer item may be offered.
        """
        with self._changed:
            self._error = None if isinstance(self._error, MAY_MEND) else self._error
            self._deadline = min(self._deadline, time.monotonic() + seconds)
            self._changed.notify_all()

    def _run(self) -> None:
        step_aside()  # where cores are few, steps go first
        while (item := self._next()) is not None:
            try:
                self._try(item)
            except BaseException as error:  # noqa: BLE001  raised again by `check`
                with self._changed:
                    self._error, self._waiting = error, None

    def _try(self, item: T) -> None:
        try:
            self._publish(item)
        except MAY_MEND as error:
            self._failed(item, error)
        else:
            self._succeeded(item)

    def _next(self) -> T | None:
        """The item to publish now, after the pause; None, and the thread is over, when there is none."""
        with self._changed:
            self._began = None
            while (pause := self._pause_left()) > 0:
                self._changed.wait(min(pause, LOOK_SECONDS))
            item, self._waiting = self._waiting, None
            if item is None:
                self._thread = None
            else:
                self._began, self.rested_seconds = time.monotonic(), 0.0
                self._worked = time.thread_time()  # of this thread, which may be a new one
            self._changed.notify_all()
            return item

    def _succeeded(self, item: T) -> None:
        with self._changed:
            self._spare, self._error, self._failing_since = item, None, None
            self._pause_seconds = FIRST_PAUSE_SECONDS

    def _failed(self, item: T, error: Exception) -> None:
        with self._changed:
            is_first = self._failing_since is None
            self._failing_since = self._failing_since or self._began
            if self._waiting is not None:  # a newer one
                self._spare, item = item, self._waiting
            gives_up = self._patience_seconds() <= 0
            self._waiting = None if gives_up else item
            self._begin_pause()
        if gives_up:
            ended_with = self._give_up(item, error)
            with self._changed:
                self._spare, self._error = item, ended_with
        elif is_first:
            self._warn(error)

    def _patience_seconds(self) -> float:
        """How much longer failures are borne."""
        now = time.monotonic()
        limit = math.inf if self._failing_since is None else self._failing_since + self._limit_seconds - now
        return min(limit, self._deadline - now, self._seconds_left())

    def _is_hurried(self) -> bool:
        return min(self._deadline, self._seconds_left()) < math.inf

    def _begin_pause(self) -> None:
        self._paused_at = time.monotonic()
        self._this_pause_seconds = _random.uniform(0.5, 1.0) * self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, MAX_PAUSE_SECONDS)

    def _pause_left(self) -> float:
        """A pause ends early where patience does, and is short once somebody hurries."""
        if self._failing_since is None or self._waiting is None:
            return 0.0
        pause = min(self._this_pause_seconds, HURRIED_PAUSE_SECONDS) if self._is_hurried() else self._this_pause_seconds
        return min(self._paused_at + pause - time.monotonic(), self._patience_seconds())
