"""Signals and a time limit -> one flag that the job asks between its steps; imports nothing heavy."""

import atexit
import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread
from types import FrameType

from entrypoint.errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOPPING = b"perdure: stopping at the next step; a second SIGINT (Ctrl-C) leaves at once\n"
_LEAVING = b"perdure: left at once; only what was published before is saved\n"
_LOOK_SECONDS = 0.2


class Stop:
    """Whether, why and since when the job shall leave.

    It is made and installed as the first thing in the process, so that a signal during the imports counts and
    `max_run_seconds` runs from the process's start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.at: float | None = None
        """When the stop was asked for, by `clock`: the grace period runs from here."""
        self._clock = clock
        self.started = clock()
        """When the process began, by `clock`."""
        self._deadline = math.inf
        self._deadline_reason = ""
        self._reason: str | None = None
        self._exit_code = 143
        self._interrupted = False

    def install(self) -> None:
        """Turn SIGTERM and SIGINT into this flag, until the process ends."""
        for number in _SIGNALS:
            signal.signal(number, self._handle)
        # The interpreter restores the default actions before it tears its modules down. A signal in that moment
        # would turn a finished job into a killed one.
        atexit.register(_ignore_signals)

    def limit(self, max_run_seconds: float) -> None:
        """Ask for a stop this long after the process's start; 0: never."""
        if max_run_seconds:
            self._deadline = self.started + max_run_seconds
            self._deadline_reason = f"--max_run_seconds {max_run_seconds:g} reached"

    def leave_with(self, exit_code: int) -> None:
        """What a second SIGINT, or the end of the grace period, exits with instead of 143."""
        self._exit_code = exit_code

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason stays."""
        if self._reason is None:
            self.at = self._clock()
            self._reason = reason

    @contextlib.contextmanager
    def grace(self, seconds: float) -> Iterator[None]:
        """End the process when the block is not left this long after a stop was asked for.

        A store that hangs, or a slow task, must not keep it until the platform kills it without a word.
        """
        over = Event()
        Thread(target=self._leave_in_time, args=(seconds, over), name="grace", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    @property
    def requested(self) -> str | None:
        """The reason to stop, or None. Costs a fraction of a microsecond: it is asked at every step."""
        if self._reason is None and self._clock() >= self._deadline:
            self.request(self._deadline_reason)
        return self._reason

    def check(self) -> None:
        """Raise Stopped once a stop was asked for."""
        if (reason := self.requested) is not None:
            raise Stopped(reason)

    def _leave_in_time(self, seconds: float, over: Event) -> None:
        # It looks now and then instead of being told: a signal's handler must not wait for the lock of an event.
        while (reason := self.requested) is None or self.at is None or self._clock() < self.at + seconds:
            if over.wait(_LOOK_SECONDS):
                return
        with contextlib.suppress(OSError):
            os.write(2, _late(reason, seconds))
        os._exit(self._exit_code)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupt()
        self.request(signal.Signals(number).name)

    def _interrupt(self) -> None:
        # The handler runs between any two bytecodes, also inside a print: only os.write cannot wait for a lock
        # that the interrupted code holds.
        with contextlib.suppress(OSError):
            os.write(2, _LEAVING if self._interrupted else _STOPPING)
        if self._interrupted:
            os._exit(self._exit_code)
        self._interrupted = True


def _late(reason: str, seconds: float) -> bytes:
    text = f"stopped by {reason}, and not done within --grace_seconds {seconds:g}: only what was published before is "
    return f"perdure: error: {text}saved; submit again to continue\n".encode()


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
