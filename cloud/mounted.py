"""A place for reading that shows another one under a prefix: evaluation shards that lie elsewhere look like `eval/`."""

import heapq
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cloud.listing import key_order
from cloud.store import Entry, Store
from cloud.wrapped import Wrapped


class Mounted(Wrapped):
    """`inner`, read with every key under `prefix` (such as "eval/") taken from `other` instead."""

    def __init__(self, inner: Store, prefix: str, other: Store) -> None:
        super().__init__(inner)
        self._prefix, self._other = prefix, other

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """Both listings, merged by key."""
        own = (entry for entry in self.inner.list(prefix, start_after) if not entry.key.startswith(self._prefix))
        return heapq.merge(own, self._mounted(prefix, start_after), key=lambda entry: key_order(entry.key))

    def stat(self, key: str) -> Entry:
        """As the store that has the key says."""
        store, inner_key = self._find(key)
        return replace(store.stat(inner_key), key=key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """From the store that has the key."""
        store, inner_key = self._find(key)
        return store.read(inner_key, start, end)

    def local_path(self, key: str) -> Path | None:
        """Where the store that has the key keeps it."""
        store, inner_key = self._find(key)
        return store.local_path(inner_key)

    def _find(self, key: str) -> tuple[Store, str]:
        if key.startswith(self._prefix):
            return self._other, key.removeprefix(self._prefix)
        return self.inner, key

    def _mounted(self, prefix: str, start_after: str) -> Iterator[Entry]:
        """The other place's entries under their new keys."""
        if not (prefix.startswith(self._prefix) or self._prefix.startswith(prefix)):
            return
        inner_prefix = prefix.removeprefix(self._prefix) if prefix.startswith(self._prefix) else ""
        for entry in self._other.list(inner_prefix):
            key = self._prefix + entry.key
            if key_order(key) > key_order(start_after):
                yield replace(entry, key=key)
