"""Where a process ends: at its n-th store operation, step or snapshot, before it, in the middle, or after it."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from cloud.store import Entry, Store, Writer
from cloud.wrapped import Wrapped

T = TypeVar("T")
When = Literal["before", "middle", "after"]

KILLED = 137
PARTS_SECONDS = 0.05
"""How long the middle of an upload waits before the end, so that the parts it handed over are on their way."""


@dataclass(frozen=True)
class Kill:
    """The `number`-th time (from 1) that this moment of this phase comes; of phase `time`, so many milliseconds in."""

    phase: str
    when: When
    number: int

    def __str__(self) -> str:
        return f"{self.when} {self.phase} {self.number}"

    @classmethod
    def parse(cls, text: str) -> "Kill":
        """The inverse of `str`."""
        when, phase, number = text.split()
        return cls(phase, cast(When, when), int(number))


class Tripwire:
    """Counts what a process passes, and ends it where `kill` says; `note` gets a line about it first."""

    def __init__(self, kill: Kill | None, note: Callable[[bytes], object]) -> None:
        self.passed: Counter[tuple[str, str]] = Counter()
        self._kill, self._note = kill, note
        self._lock = threading.Lock()
        if kill is not None and kill.phase == "time":
            timer = threading.Timer(kill.number / 1000, self._end, ("time", "middle", "SIGKILL"))
            timer.daemon = True
            timer.start()

    def passes(self, phase: str, when: When, what: str) -> None:
        """A moment comes by, in any thread."""
        with self._lock:
            self.passed[phase, when] += 1
            if self._kill is not None and self._is_at(self._kill, phase, when):
                if when == "middle":
                    time.sleep(PARTS_SECONDS)
                self._end(phase, when, what)

    def around(self, phase: str, function: Callable[..., T]) -> Callable[..., T]:
        """The function, with its begin and end on the way."""

        def run(*args: Any, **kwargs: Any) -> T:
            self.passes(phase, "before", function.__name__)
            result = function(*args, **kwargs)
            self.passes(phase, "after", function.__name__)
            return result

        return run

    def _end(self, phase: str, when: When, what: str) -> None:
        self._note(json.dumps({"phase": phase, "when": when, "what": what}).encode() + b"\n")
        if phase == "time":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(KILLED)

    def _is_at(self, kill: Kill, phase: str, when: When) -> bool:
        return (phase, when) == (kill.phase, kill.when) and self.passed[phase, when] == kill.number


class Wired(Wrapped):
    """Every operation of the store inside passes the tripwire, in the phase that `phase_of(method, key)` names."""

    def __init__(self, inner: Store, wire: Tripwire, phase_of: Callable[[str, str], str]) -> None:
        super().__init__(inner)
        self._wire, self._phase_of = wire, phase_of

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        with self._on("list", prefix):
            found = list(self.inner.list(prefix, start_after))
        return iter(found)

    def stat(self, key: str) -> Entry:
        with self._on("stat", key):
            return self.inner.stat(key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        with self._on("read", key):
            return self.inner.read(key, start, end)

    def put(self, key: str, data: bytes) -> None:
        with self._on("put", key):
            self.inner.put(key, data)

    def create(self, key: str, data: bytes) -> None:
        with self._on("create", key):
            self.inner.create(key, data)

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        with self._on("writer", key), self.inner.writer(key) as writer:
            yield _WiredWriter(writer, lambda: self._wire.passes(self._phase_of("writer", key), "middle", key))

    def delete(self, key: str) -> None:
        with self._on("delete", key):
            self.inner.delete(key)

    @contextmanager
    def _on(self, method: str, key: str) -> Iterator[None]:
        phase, what = self._phase_of(method, key), f"{method} {key}"
        self._wire.passes(phase, "before", what)
        yield
        self._wire.passes(phase, "after", what)


class _WiredWriter:
    def __init__(self, inner: Writer, passes: Callable[[], None]) -> None:
        self._inner, self._passes = inner, passes

    def write(self, data: bytes, /) -> int:
        length = self._inner.write(data)
        self._passes()
        return length


def output_phase(method: str, key: str) -> str:
    """The phase that an operation on the output folder belongs to, by its key and the thread that asks."""
    thread = threading.current_thread().name
    if key.endswith(".life"):
        return "claim" if method == "read" else "life"
    if key.startswith("attempts/"):
        return {"create": "claim", "put": "leave", "list": "check"}.get(method, "claim")
    if method in ("create", "put", "writer"):
        return _written(key)
    if method == "delete" or thread == "publisher":
        return "prune"
    if key.startswith("model/"):
        return "export"
    return "fetch" if thread == "predownload" or key else "claim"


def aside_phase(method: str, key: str) -> str:
    """Operations on what is saved on this machine: while it is saved, and when the next submission takes it back."""
    return "aside" if threading.current_thread().name == "publisher" else "back"


def data_phase(method: str, key: str) -> str:
    """Operations on the data are the census; what it fetched is kept for training."""
    return "census"


def _written(key: str) -> str:
    names: Mapping[str, str] = {"model/": "export", "ledger/": "ledger", "metrics/": "metrics"}
    for beginning, phase in names.items():
        if key.startswith(beginning):
            return phase
    return "upload" if key.endswith(".pth") else "record"
