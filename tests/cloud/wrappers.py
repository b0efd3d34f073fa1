"""Stores around a store, which fail, double or withhold on purpose."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from cloud.errors import Unreachable
from cloud.store import Entry, Store, Writer
from cloud.wrapped import Wrapped


class Far(Wrapped):
    """Like a bucket: nothing can be read in place."""

    def local_path(self, key: str) -> Path | None:
        return None


class PutOnly(Wrapped):
    """Like OBS: no create-only puts. Each operation is delayed a little, so that races have somewhere to happen."""

    can_create = False

    def __init__(self, inner: Store, delay_seconds: float = 0.0) -> None:
        super().__init__(inner)
        self._delay_seconds = delay_seconds
        self._random = Random()

    def create(self, key: str, data: bytes) -> None:
        self.put(key, data)

    def put(self, key: str, data: bytes) -> None:
        self._delay()
        self.inner.put(key, data)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        self._delay()
        return iter(list(self.inner.list(prefix, start_after)))

    def _delay(self) -> None:
        time.sleep(self._random.uniform(0, self._delay_seconds))


class Failing(Wrapped):
    """Raises Unreachable for one method on keys that `which` picks, before or after the effect, `times` times."""

    def __init__(
        self, inner: Store, method: str, which: Callable[[str], bool], *, after: bool = True, times: int = 1
    ) -> None:
        super().__init__(inner)
        self._method, self._which, self._after, self._left = method, which, after, times
        self._lock = threading.Lock()

    def create(self, key: str, data: bytes) -> None:
        self._run("create", key, lambda: self.inner.create(key, data))

    def put(self, key: str, data: bytes) -> None:
        self._run("put", key, lambda: self.inner.put(key, data))

    def delete(self, key: str) -> None:
        self._run("delete", key, lambda: self.inner.delete(key))

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        result: list[bytes] = []
        self._run("read", key, lambda: result.append(self.inner.read(key, start, end)))
        return result[0]

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        self._run("list", prefix, lambda: None)
        return self.inner.list(prefix, start_after)

    def _run(self, method: str, key: str, effect: Callable[[], None]) -> None:
        with self._lock:
            fails = method == self._method and self._left > 0 and self._which(key)
            self._left -= fails
        if not fails or self._after:
            effect()
        if fails:
            raise Unreachable(f"{key}: no answer, as the test wants it")


class Cutting(Wrapped):
    """Answers the first read of each key that `which` picks with half of it, as a connection does that breaks."""

    def __init__(self, inner: Store, which: Callable[[str], bool]) -> None:
        super().__init__(inner)
        self._which = which
        self._cut: set[str] = set()

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        data = self.inner.read(key, start, end)
        if key in self._cut or not self._which(key):
            return data
        self._cut.add(key)
        return data[: len(data) // 2]


class Doubling(Wrapped):
    """Sends all that changes something twice, as a proxy does that repeats what it got no answer to."""

    def put(self, key: str, data: bytes) -> None:
        self.inner.put(key, data)
        self.inner.put(key, data)

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)
        self.inner.create(key, data)

    def delete(self, key: str) -> None:
        self.inner.delete(key)
        self.inner.delete(key)

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        written = _Twice()
        with self.inner.writer(key) as writer:
            written.first = writer
            yield written
        with self.inner.writer(key) as writer:
            writer.write(bytes(written.data))


class _Twice:
    """Writes, and remembers what."""

    first: Writer

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes, /) -> int:
        self.data += data
        return self.first.write(data)


class Noisy(Far):
    """Flips a bit in what is read first from each of `keys`, as the way here can; those still in it were not read."""

    def __init__(self, inner: Store, keys: set[str]) -> None:
        super().__init__(inner)
        self.keys = keys

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        data = super().read(key, start, end)
        if key not in self.keys:
            return data
        self.keys.remove(key)
        return flipped(data)


def flipped(data: bytes) -> bytes:
    """The same with one bit changed."""
    return data[:3] + bytes([data[3] ^ 1]) + data[4:]
