"""Signals and a time limit -> one flag that the job asks between its steps; imports nothing heavy."""

import atexit
import contextlib
import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread, current_thread, main_thread
from types import FrameType

from entrypoint.errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOPPING = "perdure: stopping at the next step; a second SIGINT (Ctrl-C) leaves at once"
_LEAVING = "perdure: left at once; only what was published before is saved"
_LOOK_SECONDS = 0.2
_WRITE_SECONDS = 0.5
_LAST_SHARE = 0.1
_MAX_LAST_SECONDS = 2.0


def _nothing() -> None:
    """Nobody has anything to write at the end."""


def _plain(text: str, _exit_code: int) -> str:
    return f"perdure: error: {text}"


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
        self.newest: str = ""
        """What a submission that is ended by force now will be continued from; "" for nothing."""
        self.last_words: Callable[[], None] = _nothing
        """Called in a thread of its own when the grace period is nearly over, with what is left of it."""
        self.shown: Callable[[str, int], str] = _plain
        """How an error's text and exit code look in the log."""
        self._deadline = math.inf
        self._deadline_reason = ""
        self._reason: str | None = None
        self._exit_code = 143
        self._grace_seconds = math.inf
        self._interrupted = False
        self._is_watched = False

    def install(self) -> None:
        """Turn SIGTERM and SIGINT into this flag, until the process ends."""
        for number in _SIGNALS:
            signal.signal(number, self._handle)
        # The interpreter restores the default actions before it tears its modules down. A signal in that moment
        # would turn a finished job into a killed one.
        atexit.register(_ignore_signals)
        os.register_at_fork(after_in_child=_forget_signals)

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

        A store that hangs, or one long operation in the main thread, must not keep it until the platform kills it
        without a word. While the main thread is in one, Python calls no handler: a thread reads the signals from a
        pipe that the interpreter's own handler in C writes to.
        """
        self._grace_seconds = seconds
        over = Event()
        receiver, sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        earlier = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
        self._is_watched = True
        watch = Thread(target=self._watch, args=(receiver, over), name="grace", daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._is_watched = False
            over.set()
            signal.set_wakeup_fd(earlier)
            os.close(sender)  # which wakes the thread
            watch.join()
            os.close(receiver)

    @property
    def requested(self) -> str | None:
        """The reason to stop, or None. Costs a fraction of a microsecond: it is asked at every step."""
        if self._reason is None and self._clock() >= self._deadline:
            self.request(self._deadline_reason)
        return self._reason

    @property
    def seconds_left(self) -> float:
        """What is left of the grace period, less the end that belongs to `last_words`; infinite without a stop."""
        if self.requested is None or self.at is None:
            return math.inf
        return self.at + self._grace_seconds - self._last_seconds - self._clock()

    def check(self) -> None:
        """Raise Stopped once a stop was asked for."""
        if (reason := self.requested) is not None:
            raise Stopped(reason)

    @property
    def _last_seconds(self) -> float:
        return min(_MAX_LAST_SECONDS, _LAST_SHARE * self._grace_seconds)

    def _watch(self, receiver: int, over: Event) -> None:
        """Note the signals as they come, and end the process when the time is over."""
        while self.seconds_left > 0:
            select.select([receiver], [], [], min(_LOOK_SECONDS, max(self.seconds_left, 0)))
            if over.is_set():
                return
            for number in _received(receiver):
                self._notice(number)
        last = Thread(target=self.last_words, name="last words", daemon=True)
        last.start()
        last.join(self._last_seconds)
        if not over.is_set():
            self._leave(self.shown(self._late(), self._exit_code))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # A signal is counted once: by the thread that reads the pipe, while there is one.
        if self._is_watched:
            self.request(signal.Signals(number).name)
        else:
            self._notice(number)

    def _notice(self, number: int) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                self._leave(_LEAVING)
            self._interrupted = True
            _say(_STOPPING)
        self.request(signal.Signals(number).name)

    def _leave(self, text: str) -> None:
        """End the process at once, whatever its threads are doing."""
        if current_thread() is main_thread():  # in a handler, where no thread may be waited for
            _say(text)
        else:  # somebody who no longer reads our stderr must not keep us
            saying = Thread(target=_say, args=(text,), daemon=True)
            saying.start()
            saying.join(_WRITE_SECONDS)
        os._exit(self._exit_code)

    def _late(self) -> str:
        newest = f" (the newest: {self.newest})" if self.newest else ""
        return (
            f"stopped by {self._reason}, and not done within --grace_seconds {self._grace_seconds:g}: "
            f"only what was published before is saved{newest}; submit again to continue"
        )


def _received(receiver: int) -> list[int]:
    """The numbers of the signals that came since the last look."""
    try:
        numbers = os.read(receiver, 512)
    except BlockingIOError:
        return []
    return [number for number in numbers if number in _SIGNALS]


def _say(text: str) -> None:
    # Also from a handler, which runs between any two bytecodes, even inside a print: only os.write cannot wait for a
    # lock that the interrupted code holds.
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _forget_signals() -> None:
    """A forked worker's signals are its own: through the pipe that it inherits they would stop the whole job."""
    with contextlib.suppress(ValueError):  # forked from another thread than the main one
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
