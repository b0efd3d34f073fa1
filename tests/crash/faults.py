"""Stores that fail, hesitate, answer with less than asked for, or do everything twice: now and then, at random."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from cloud.errors import Unreachable
from cloud.store import Entry, Store, Writer
from tests.cloud.wrappers import Doubling, Failing, Wrapped

T = TypeVar("T")

SHARE = 0.06
MAX_DELAY_SECONDS = 0.05
FAULTS = ("before", "after", "truncate", "delay", "delay")
SEED = "FAULTS_SEED"


def install() -> None:
    """Every store that the job opens from now on is so; called in the child that runs the job."""
    from entrypoint import places

    rng, plain = random.Random(os.environ[SEED]), places.open_store

    def open_store(url, options=None, *, writable=False):  # type: ignore[no-untyped-def]
        store = plain(url, options, writable=writable)
        store.inner = Unreliable(Doubling(store.inner), rng)  # inside of what asks again
        return store

    places.open_store = open_store


def refuse_checkpoints() -> None:
    """From now on no checkpoint can be committed, and what is trained is saved on this machine at once."""
    from entrypoint import places

    plain = places.open_output
    places.open_output = lambda config: Failing(
        plain(config), "create", lambda key: key.startswith("ckpt_"), after=False, times=sys.maxsize
    )
    os.environ["PERDURE_MAX_UNPUBLISHED_SECONDS"] = "0"


class Unreliable(Wrapped):
    """Raises Unreachable before or after the effect, cuts what is read, or sleeps; never cuts a key twice in a row."""

    def __init__(self, inner: Store, rng: random.Random) -> None:
        super().__init__(inner)
        self._rng = rng
        self._cut: set[str] = set()
        self._lock = threading.Lock()

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        found, fault = list(self.inner.list(prefix, start_after)), self._fault(prefix)
        if fault in ("before", "after", "truncate"):
            yield from found[: len(found) // 2]
            raise Unreachable("a listing broke off, as the test wants it")
        yield from found

    def stat(self, key: str) -> Entry:
        return self._run(key, lambda: self.inner.stat(key))

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        fault = self._fault(key)
        data = self._with(fault, key, lambda: self.inner.read(key, start, end))
        return data[: len(data) // 2] if fault == "truncate" else data

    def put(self, key: str, data: bytes) -> None:
        self._run(key, lambda: self.inner.put(key, data))

    def create(self, key: str, data: bytes) -> None:
        self._run(key, lambda: self.inner.create(key, data))

    def delete(self, key: str) -> None:
        self._run(key, lambda: self.inner.delete(key))

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        fault = self._fault(key)
        with self.inner.writer(key) as writer:
            yield writer
            self._with(fault if fault in ("before", "delay") else "", key, lambda: None)
        self._with(fault if fault == "after" else "", key, lambda: None)

    def _run(self, key: str, effect: Callable[[], T]) -> T:
        return self._with(self._fault(key), key, effect)

    def _with(self, fault: str, key: str, effect: Callable[[], T]) -> T:
        if fault == "delay":
            time.sleep(self._rng.uniform(0, MAX_DELAY_SECONDS))
        if fault == "before":
            raise Unreachable(f"{key}: no answer, as the test wants it")
        result = effect()
        if fault == "after":
            raise Unreachable(f"{key}: the answer was lost, as the test wants it")
        return result

    def _fault(self, key: str) -> str:
        with self._lock:
            fault = self._rng.choice(FAULTS) if self._rng.random() < SHARE else ""
            if fault == "truncate" and key in self._cut:  # what stays cut is damaged
                fault = ""
            (self._cut.add if fault == "truncate" else self._cut.discard)(key)
            return fault
