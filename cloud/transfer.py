"""Moving whole objects between a store and this machine, digested on the way."""

import errno
import hashlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from cloud.errors import AccessDenied, Damaged, StoreError, StoreFull, Unreachable
from cloud.store import Store, Writer
from cloud.threads import in_background

CHUNK_BYTES = 64 * 2**20
"""What one digest of a `Digester(chunked=True)` covers."""

PART_BYTES = 8 * 2**20
NUM_PARTS = 6
NUM_LANES = min(3, os.cpu_count() or 1)
CHECK_SECONDS = 0.1
PIECE_BYTES = 2**20
"""What is copied and digested at once: a copy lies in the processor's cache, quicker by more than copying takes. Each
takes the interpreter from a step twice or three times, so not smaller."""
GATHERED_BYTES = 2**16
"""Smaller writes are gathered: torch.save makes five for each tensor, each of which would take the interpreter from a
step that waits for it."""
UPLOAD_PAUSES_SECONDS = (2.0, 8.0)

_log = logging.getLogger(__name__)


Data = bytes | memoryview


def no_check() -> None:
    """Nobody asks to stop."""


class Digester:
    """SHA-256 of bytes on their way: of the whole, or one per CHUNK_BYTES, which several threads can share."""

    def __init__(self, *, chunked: bool = False) -> None:
        self.size = 0
        self._span_bytes = CHUNK_BYTES if chunked else sys.maxsize
        self._hashes: dict[int, hashlib._Hash] = {}
        self._lock = threading.Lock()

    def update(self, data: Data) -> None:
        """Take the bytes that follow those before."""
        view = memoryview(data)
        while view:
            room = self._span_bytes - self.size % self._span_bytes
            self.update_at(self.size, view[:room])
            view = view[room:]

    def update_at(self, start: int, data: Data) -> None:
        """Take bytes of one span: those of a span in order, spans in any order and each from any one thread."""
        number = start // self._span_bytes
        if number not in self._hashes:
            self._hashes[number] = hashlib.sha256()
        for piece in _copies(data) if len(data) > PIECE_BYTES else (data,):
            self._hashes[number].update(piece)
        with self._lock:
            self.size += len(data)

    def spans(self, size: int) -> list[tuple[int, int]]:
        """How `size` bytes are cut: [start, end) of what each digest covers; one empty span for no bytes."""
        starts = range(0, max(size, 1), self._span_bytes)
        return [(start, min(start + self._span_bytes, size)) for start in starts]

    def sha256(self) -> str:
        """The hex digest of the whole; ValueError when there are only those of chunks."""
        if self._span_bytes == CHUNK_BYTES and self.size > CHUNK_BYTES:
            raise ValueError("digested by chunks: there is no digest of the whole")
        return self._hashes[0].hexdigest() if self._hashes else hashlib.sha256().hexdigest()

    def chunks(self) -> tuple[str, ...]:
        """The hex digest of each CHUNK_BYTES, none for no bytes; ValueError when there is only that of the whole."""
        if self._span_bytes != CHUNK_BYTES and self.size > CHUNK_BYTES:
            raise ValueError("digested as a whole: there are no digests of chunks")
        return tuple(self._hashes[number].hexdigest() for number in sorted(self._hashes)) if self.size else ()


def fetch(
    store: Store, key: str, path: Path, *, size: int, digester: Digester, check: Callable[[], None] = no_check
) -> None:
    """Copy an object of `size` bytes to the new local file `path` by parallel ranges, digested as they arrive.

    `check` is called every 0.1 s and may raise. After any exception there is no file. Raises Damaged when the object
    has another size, StoreFull when the disk is full, FileExistsError when `path` is there already.
    """
    ranges = _ranges(store, key, size)
    with _NewFile(path) as file:

        def part(start: int, end: int) -> memoryview:
            data = ranges(start, end)
            file.write_at(start, data)
            return data

        _digest_parts(part, size, digester, check)


def fetch_parts(
    store: Store, key: str, *, size: int, digester: Digester, check: Callable[[], None] = no_check
) -> list[memoryview]:
    """An object of `size` bytes as parts of PART_BYTES in memory. Raises, digests, and calls `check`, as `fetch`."""
    ranges, parts = _ranges(store, key, size), dict[int, memoryview]()

    def part(start: int, end: int) -> memoryview:
        parts[start] = data = ranges(start, end)
        return data

    _digest_parts(part, size, digester, check)
    return [parts[start] for start in sorted(parts)]


def digest_object(
    store: Store, key: str, *, size: int, digester: Digester, check: Callable[[], None] = no_check
) -> None:
    """Digest an object of `size` bytes as it arrives, without keeping it. Raises, and calls `check`, as `fetch`."""
    _digest_parts(_ranges(store, key, size), size, digester, check)


def _ranges(store: Store, key: str, size: int) -> Callable[[int, int], memoryview]:
    """What gives the bytes [start, end) of an object of `size` bytes; Damaged when there are others."""

    def read(start: int, end: int) -> memoryview:
        # One byte more than there should be shows an object that has grown.
        data = store.view(key, start, end + 1 if end == size else end)
        if len(data) != end - start:
            raise Damaged(f"{key} in {store.url}: not the {size} bytes it was listed or recorded with")
        return data

    return read


def digest_file(path: Path, *, size: int, digester: Digester, check: Callable[[], None] = no_check) -> None:
    """Digest a local file of `size` bytes; Damaged when it has another size. `check` as in `fetch`."""

    def part(start: int, end: int) -> bytes:
        with file_errors(path), path.open("rb") as file:
            file.seek(start)
            data = file.read(end + 1 - start if end == size else end - start)
        if len(data) != end - start:
            raise Damaged(f"{path}: not the {size} bytes it was listed or recorded with")
        return data

    _digest_parts(part, size, digester, check)


def upload(
    store: Store,
    key: str,
    produce: Callable[[Writer], None],
    *,
    pauses_seconds: Sequence[float] = UPLOAD_PAUSES_SECONDS,
    sleep: Callable[[float], object] = time.sleep,
) -> Digester:
    """Stream what `produce` writes into an object; the digests (by chunk) are of the very bytes handed over.

    Buffers may be reused as soon as `write` returns: what is not bytes already is copied. `produce` is called again,
    after each of the pauses, when the store gets Unreachable; any other error leaves no object and goes through.
    """
    for pause_seconds in pauses_seconds:
        try:
            return _upload_once(store, key, produce)
        except Unreachable as error:
            _log.warning("%s: uploading %s again in %.0f s", error, key, pause_seconds)
            sleep(pause_seconds)
    return _upload_once(store, key, produce)


def _upload_once(store: Store, key: str, produce: Callable[[Writer], None]) -> Digester:
    with store.writer(key) as raw:
        writer = _DigestingWriter(raw)
        try:
            produce(writer)
            writer.finish()
        except Exception:
            # torch.save answers a failed write with an error of its own ("unexpected pos"): the first one counts.
            if writer.failure is None:
                raise
        if writer.failure is not None:
            raise writer.failure
    return writer.digester


class _DigestingWriter:
    """Hands bytes over that nobody else can change, digested while their copy lies in the processor's cache.

    After a failed write every other one fails.
    """

    def __init__(self, raw: Writer) -> None:
        self.digester = Digester(chunked=True)
        self.failure: BaseException | None = None
        self._raw = raw
        self._gathered = bytearray()

    def write(self, data: Data, /) -> int:
        if self.failure is not None:
            raise self.failure
        num_bytes = memoryview(data).nbytes
        if num_bytes < GATHERED_BYTES:
            self._gathered += data
            self._send_gathered(at_least=PIECE_BYTES - GATHERED_BYTES)
        else:
            self._send_gathered()
            self._send(_as_immutable(data))
        return num_bytes

    def flush(self) -> None:
        """What is kept back goes on with what follows, or in the end; torch.save calls it."""

    def finish(self) -> None:
        """Hand over what was kept back, unless a write failed."""
        if self.failure is None:
            self._send_gathered()

    def _send_gathered(self, at_least: int = 1) -> None:
        if len(self._gathered) >= at_least:
            self._send((bytes(self._gathered),))
            self._gathered.clear()

    def _send(self, pieces: Iterable[Data]) -> None:
        try:
            for piece in pieces:
                self.digester.update(piece)
                self._raw.write(piece)
        except BaseException as error:
            self.failure = error
            raise


def _as_immutable(data: Data) -> Iterable[Data]:
    """The same bytes as nobody else can change them, in pieces: a large tensor's memory is never there twice."""
    return (data,) if type(data) is bytes else _copies(data)


def _copies(data: Data) -> Iterator[memoryview]:
    """Read-only copies, PIECE_BYTES each. NumPy does not hold the interpreter, for which a step may be waiting."""
    source = np.frombuffer(data, np.uint8)
    for start in range(0, len(source), PIECE_BYTES):
        copy = source[start : start + PIECE_BYTES].copy()
        copy.flags.writeable = False
        yield copy.data


def _digest_parts(part: Callable[[int, int], Data], size: int, digester: Digester, check: Callable[[], None]) -> None:
    """Digest what `part(start, end)` returns, in lanes: a span is digested in order, spans side by side.

    Lanes because one core digests 0.2-2 GB/s, less than a network can bring.
    """
    spans = digester.spans(size)
    num_lanes = min(NUM_LANES, len(spans))
    queue = iter(spans)  # shared by the lanes: next() on a list's iterator is atomic

    def lane() -> None:
        for span in queue:
            for start, data in _ahead(part, span, NUM_PARTS // num_lanes):
                digester.update_at(start, data)

    _wait({in_background(lane, "transfer") for _ in range(num_lanes)}, check)


def _ahead(part: Callable[[int, int], Data], span: tuple[int, int], num_parts: int) -> Iterator[tuple[int, Data]]:
    """The parts of a span with their starts, in order; up to `num_parts` are on their way or waiting."""
    pending: deque[tuple[int, Future[Data]]] = deque()
    for start in range(span[0], max(span[1], span[0] + 1), PART_BYTES):
        stop = min(start + PART_BYTES, span[1])
        pending.append((start, in_background(partial(part, start, stop), "transfer")))
        if len(pending) == num_parts:
            start, future = pending.popleft()
            yield start, future.result()
    for start, future in pending:
        yield start, future.result()


def _wait(futures: set[Future[None]], check: Callable[[], None]) -> None:
    """Until all are done, or the first exception, theirs or of `check`."""
    pending = futures
    while pending:
        check()
        done, pending = wait(pending, timeout=CHECK_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()


class _NewFile:
    """A new file that several threads write parts of; gone after an exception, closed to late writers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def __enter__(self) -> "_NewFile":
        with file_errors(self._path):
            self._file = self._path.open("xb", buffering=0)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._lock:
            self._file.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def write_at(self, start: int, data: memoryview) -> None:
        """Write all of `data` there; ValueError when the file is closed: nobody waits for this part any more."""
        # The kernel lets one thread at a time write to a file anyway: the lock costs nothing.
        with self._lock, file_errors(self._path):
            self._file.seek(start)
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Errors of a local file as those of `cloud.errors`: its FileNotFoundError must not pass for a missing key."""
    try:
        yield
    except FileExistsError:
        raise
    except PermissionError as error:
        raise AccessDenied(f"{path}: no permission to write or read here; let this user do so") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(
                f"{path}: no space left on this machine's disk; make room, or set --cache_dir or TMPDIR"
            ) from error
        raise StoreError(f"{path}: {error.strerror or error}; repair it, then submit again") from error
