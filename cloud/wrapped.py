"""Stores around a store: one that does what the store inside does, to change a method of, and one that counts."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from cloud.store import Entry, Store, Writer


class Wrapped:
    """Does what `inner` does. A subclass changes what it is about, and nothing else."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def url(self) -> str:
        """As of the store inside."""
        return self.inner.url

    @property
    def can_create(self) -> bool:
        """As of the store inside."""
        return self.inner.can_create

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """As of the store inside."""
        return self.inner.list(prefix, start_after)

    def stat(self, key: str) -> Entry:
        """As of the store inside."""
        return self.inner.stat(key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """As of the store inside."""
        return self.inner.read(key, start, end)

    def view(self, key: str, start: int, end: int) -> memoryview:
        """What `read` gives: whoever changes that changes this too."""
        return memoryview(self.read(key, start, end))

    def put(self, key: str, data: bytes) -> None:
        """As of the store inside."""
        self.inner.put(key, data)

    def create(self, key: str, data: bytes) -> None:
        """As of the store inside."""
        self.inner.create(key, data)

    def writer(self, key: str) -> AbstractContextManager[Writer]:
        """As of the store inside."""
        return self.inner.writer(key)

    def delete(self, key: str) -> None:
        """As of the store inside."""
        self.inner.delete(key)

    def discard_unfinished(self, which: Callable[[str], bool]) -> int:
        """As of the store inside."""
        return self.inner.discard_unfinished(which)

    def local_path(self, key: str) -> Path | None:
        """As of the store inside."""
        return self.inner.local_path(key)


class Counted(Wrapped):
    """Tells `count` the length of everything read, from whatever thread read it."""

    def __init__(self, inner: Store, count: Callable[[int], object]) -> None:
        super().__init__(inner)
        self._count = count

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """From the store inside, counted."""
        data = self.inner.read(key, start, end)
        self._count(len(data))
        return data

    def view(self, key: str, start: int, end: int) -> memoryview:
        """From the store inside, counted."""
        data = self.inner.view(key, start, end)
        self._count(len(data))
        return data
