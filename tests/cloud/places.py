"""Fresh stores for a test, and one that can be held up in the middle of a read."""

import threading
from collections.abc import Callable
from uuid import uuid4

from cloud.open import open_store
from cloud.store import Store
from tests.cloud.wrappers import Wrapped


def new_memory_store() -> Store:
    """Empty, and shared with nobody."""
    return open_store(f"memory://{uuid4().hex}/", writable=True)


class ReadsThrough(Wrapped):
    """Calls `before(key, number of the read from 1)` ahead of each read; notes keys and how many run at once."""

    def __init__(self, inner: Store, before: Callable[[str, int], object] = lambda key, number: None) -> None:
        super().__init__(inner)
        self.before = before
        self.keys: list[str] = []
        self.num_now = self.num_at_once = 0
        self._lock = threading.Lock()

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        with self._lock:
            self.keys.append(key)
            self.num_now += 1
            self.num_at_once = max(self.num_at_once, self.num_now)
            number = len(self.keys)
        try:
            self.before(key, number)
            return self.inner.read(key, start, end)
        finally:
            with self._lock:
                self.num_now -= 1
