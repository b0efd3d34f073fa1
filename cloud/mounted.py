"""A place for reading that shows another one under a prefix: evaluation shards that lie elsewhere look like `eval/`."""

import heapq
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from cloud.store import Entry, Store, Writer


class Mounted:
    """`base`, with every key under `prefix` (such as "eval/") taken from `other`. Writing is refused nowhere but used
    by nobody: it goes to the store that the key belongs to.
    """

    def __init__(self, base: Store, prefix: str, other: Store) -> None:
        self._base, self._prefix, self._other = base, prefix, other

    @property
    def url(self) -> str:
        """That of `base`."""
        return self._base.url

    @property
    def can_create(self) -> bool:
        """Whether both can."""
        return self._base.can_create and self._other.can_create

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """Both listings, merged by key."""
        own = (entry for entry in self._base.list(prefix, start_after) if not entry.key.startswith(self._prefix))
        return heapq.merge(own, self._mounted(prefix, start_after), key=lambda entry: entry.key.encode())

    def stat(self, key: str) -> Entry:
        """As the store that has the key says."""
        store, inner = self._find(key)
        return replace(store.stat(inner), key=key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """From the store that has the key."""
        store, inner = self._find(key)
        return store.read(inner, start, end)

    def put(self, key: str, data: bytes) -> None:
        """To the store that the key belongs to."""
        store, inner = self._find(key)
        store.put(inner, data)

    def create(self, key: str, data: bytes) -> None:
        """In the store that the key belongs to."""
        store, inner = self._find(key)
        store.create(inner, data)

    def writer(self, key: str) -> AbstractContextManager[Writer]:
        """To the store that the key belongs to."""
        store, inner = self._find(key)
        return store.writer(inner)

    def delete(self, key: str) -> None:
        """From the store that the key belongs to."""
        store, inner = self._find(key)
        store.delete(inner)

    def local_path(self, key: str) -> Path | None:
        """Where the store that has the key keeps it."""
        store, inner = self._find(key)
        return store.local_path(inner)

    def _find(self, key: str) -> tuple[Store, str]:
        if key.startswith(self._prefix):
            return self._other, key.removeprefix(self._prefix)
        return self._base, key

    def _mounted(self, prefix: str, start_after: str) -> Iterator[Entry]:
        """The other place's entries under their new keys."""
        if not (prefix.startswith(self._prefix) or self._prefix.startswith(prefix)):
            return
        inner = prefix.removeprefix(self._prefix) if prefix.startswith(self._prefix) else ""
        for entry in self._other.list(inner):
            key = self._prefix + entry.key
            if key.encode() > start_after.encode():
                yield replace(entry, key=key)
