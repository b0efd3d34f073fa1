"""A store that asks again when the one inside gives no answer."""

import random
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from cloud.errors import Unreachable
from cloud.store import Entry, Store
from cloud.wrapped import Wrapped

P = ParamSpec("P")
T = TypeVar("T")

FIRST_DELAY_SECONDS = 0.2
MAX_DELAY_SECONDS = 3.0

# Not the global generator: background threads would draw from the numbers that a task seeded for itself.
_random = random.Random()


class RetryingStore(Wrapped):
    """Repeats what failed with Unreachable, after growing delays, for at most `retry_seconds` in all.

    An attempt that took long is not repeated when another like it would end after `retry_seconds`.

    `create` is repeated too. Where the answer of a first request was lost, the second finds the key taken by
    the first: FileExistsError then means "taken, perhaps by me", and the caller reads it and compares.
    A writer is not repeated, since its bytes are gone: the caller produces them again.
    """

    def __init__(
        self,
        inner: Store,
        retry_seconds: float = 15.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._sleep = sleep

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """As of the store inside; one that breaks goes on after the last key that was seen."""
        patience = self._patience()
        while True:
            try:
                for entry in self.inner.list(prefix, start_after):
                    yield entry
                    start_after = entry.key
                    patience = self._patience()
                return
            except Unreachable as error:
                patience.wait_or_raise(error)

    def stat(self, key: str) -> Entry:
        """As of the store inside."""
        return self._repeat(self.inner.stat, key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """As of the store inside."""
        return self._repeat(self.inner.read, key, start, end)

    def view(self, key: str, start: int, end: int) -> memoryview:
        """As of the store inside."""
        return self._repeat(self.inner.view, key, start, end)

    def put(self, key: str, data: bytes) -> None:
        """As of the store inside."""
        self._repeat(self.inner.put, key, data)

    def create(self, key: str, data: bytes) -> None:
        """As of the store inside; see the class for what FileExistsError means here."""
        self._repeat(self.inner.create, key, data)

    def delete(self, key: str) -> None:
        """As of the store inside."""
        self._repeat(self.inner.delete, key)

    def _patience(self) -> "_Patience":
        return _Patience(self._retry_seconds, self._clock, self._sleep)

    def _repeat(self, ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        patience = self._patience()
        while True:
            try:
                return ask(*args, **kwargs)
            except Unreachable as error:
                patience.wait_or_raise(error)


class _Patience:
    """The time that is left for one request and its repetitions."""

    def __init__(self, retry_seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._attempt_began = clock()
        self._deadline = self._attempt_began + retry_seconds
        self._delay_seconds = FIRST_DELAY_SECONDS

    def wait_or_raise(self, error: Unreachable) -> None:
        """Sleep before the next attempt; raise `error` when that could not end in time."""
        now = self._clock()
        delay_seconds = _random.uniform(0.5, 1.0) * self._delay_seconds
        if now + delay_seconds + (now - self._attempt_began) > self._deadline:
            raise error
        self._sleep(delay_seconds)
        self._delay_seconds = min(2 * self._delay_seconds, MAX_DELAY_SECONDS)
        self._attempt_began = self._clock()
