"""Shards as local files: fetched ahead of use into a folder of bounded size, or read where they are."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

from cloud.errors import CacheTooSmall, Damaged, Gone, StoreError
from cloud.shelf import NOW, Job, Shelf, Wanted
from cloud.slot import Content, Slot
from cloud.store import Store
from cloud.transfer import CHECK_SECONDS, Digester, digest_file, fetch, no_check

__all__ = ["ShardCache", "ShardVersion", "Wanted"]

NUM_THREADS = 3
CLOSE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class ShardVersion(Protocol):
    """Anything with a shard's key and what its content is, such as `Wanted` or a ledger's shard."""

    @property
    def key(self) -> str:
        """Relative to the store."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def sha256(self) -> str | None:
        """In hex; None where it is yet to be found out."""


class ShardCache:
    """Local files with the content of shards: never more than `limit_bytes` on disk, whoever left them there.

    An object that is a local file is read in place. For others, threads fetch what `prefetch` asked for, in its
    order, as long as it fits beside what is in use and what is needed earlier; what goes first is what nobody asked
    for, least recently used first, then what is needed last. An `acquire` comes before all that. All methods can be
    called from any thread. `check` is called every 0.1 s by a waiting `acquire` and may raise.
    """

    def __init__(
        self, store: Store, directory: Path, limit_bytes: int, *, check: Callable[[], None] = no_check
    ) -> None:
        self._store = store
        self._directory, self._limit_bytes, self._check = directory, limit_bytes, check
        self._changed = threading.Condition()  # its lock guards the shelf and everything below
        self._acquired: dict[str, list[Content]] = {}
        self._num_waiting = 0
        self._threads: list[threading.Thread] = []
        self._closed = False

    @cached_property
    def _shelf(self) -> Shelf:
        """Made when the first shard comes from elsewhere: to read in place nobody waits until its files are counted."""
        return Shelf(Slot(self._directory, self._limit_bytes))

    def prefetch(self, wanted: Sequence[ShardVersion]) -> None:
        """Fetch these in the background, in this order, as space permits; replaces what was asked for before.

        What cannot be fetched is only reported when it is acquired; a folder that cannot be used is, here too.
        """
        remote = [_plain(shard) for shard in wanted if self._store.local_path(shard.key) is None]
        with self._changed:
            if self._closed or not (remote or self._is_used):
                return
            self._shelf.want_ahead(remote)
            self._changed.notify_all()
            if remote and not self._threads:
                self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(NUM_THREADS)]
                for thread in self._threads:
                    thread.start()

    @contextmanager
    def file_of(self, wanted: ShardVersion) -> Iterator[tuple[Path, str]]:
        """`acquire`, and `release` at the end. What is read in place may go away at any moment, and be missed here.

        Gone when the shard is, NoSuchBucket when it is the whole place; else what `acquire` raises.
        """
        try:
            file = self.acquire(wanted)
            try:
                yield file
            finally:
                self.release(wanted.key)
        except FileNotFoundError:
            self._check_there(wanted.key)
            raise

    def acquire(self, wanted: ShardVersion) -> tuple[Path, str]:
        """A local file with the shard's content, and its SHA-256; waits for it. It stays until `release`.

        Raises Damaged when content or size are still not what is wanted after a second fetch, CacheTooSmall when it
        does not fit beside what is acquired (waiting for a release could be waiting for the caller), StoreFull when
        the disk is full before the limit, and whatever the store raises.
        """
        shard = _plain(wanted)
        path = self._store.local_path(shard.key)
        if path is not None:
            return path, self._digest_in_place(shard, path)
        try:
            content = self._find_or_begin(shard)
        except CacheTooSmall:
            self._store.stat(shard.key)  # a file that is gone was not found in place: FileNotFoundError
            raise
        if isinstance(content, Job):
            content = self._run(content, self._check_open)
        with self._changed:
            self._acquired.setdefault(shard.key, []).append(content)
        return content.path, content.digest

    def release(self, key: str) -> None:
        """The file may go: once per `acquire`. One that was read in place stays, of course."""
        with self._changed:
            contents = self._acquired.get(key)
            if contents:
                self._unpin(contents.pop())

    def close(self) -> None:
        """Stop fetching and let other processes use what is there; files that are still acquired may go too."""
        with self._changed:
            self._closed, is_used = True, self._is_used
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)
        # A thread that hangs in a file system keeps the folder locked: it may still write there.
        if is_used and not any(thread.is_alive() for thread in self._threads):
            self._shelf.slot.close()

    @property
    def _is_used(self) -> bool:
        return "_shelf" in vars(self)

    def _check_there(self, key: str) -> None:
        try:
            self._store.stat(key)
        except FileNotFoundError:
            raise Gone(f"{key} in {self._store.url}: gone; restore it, then submit again") from None

    def _digest_in_place(self, shard: Wanted, path: Path) -> str:
        """A known digest is trusted: the catalog has compared versions or contents just before."""
        if shard.sha256 is None:
            digester = Digester()
            try:
                digest_file(path, size=shard.size, digester=digester, check=self._check)
            except StoreError:  # also where the file went away meanwhile
                self._check_there(shard.key)
                raise
            return digester.sha256()
        size = path.stat().st_size
        if size != shard.size:
            raise Damaged(f"{shard.key} in {self._store.url}: {size} bytes, it was listed with {shard.size}")
        return shard.sha256

    def _find_or_begin(self, shard: Wanted) -> Content | Job:
        """Its content, pinned, as soon as it is there; or its job, when nobody else brings it and there is room."""
        with self._changed, self._waiting():
            self._check_open()
            self._shelf.take_ahead(shard.key)
            while True:
                content = self._shelf.ready(shard)
                if content is not None:
                    content.num_pins += 1
                    return content
                others = self._shelf.job(shard)
                if others is not None:
                    others.place = NOW
                else:
                    job = self._shelf.begin(shard, NOW)
                    if job is not None:
                        return job
                    self._cancel_for(shard)
                self._changed.wait(CHECK_SECONDS)
                self._check_open()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Nothing is begun ahead while an `acquire` waits for space or for a fetch."""
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1
            self._changed.notify_all()

    def _cancel_for(self, shard: Wanted) -> None:
        num_bytes = self._shelf.cancel_for(shard.size)
        if num_bytes < shard.size:
            slot = self._shelf.slot
            raise CacheTooSmall(
                f"{shard.key} in {self._store.url}: its {shard.size} bytes do not fit into the cache in {slot.path}, "
                f"{max(num_bytes, 0)} of {slot.limit_bytes} bytes are not in use; raise --cache_bytes"
            )

    def _run(self, job: Job, check: Callable[[], None]) -> Content:
        """Fetch or verify; the content comes pinned. After an exception its space is free again."""
        try:
            digest = self._bring(job, check)
            with self._changed:
                return self._shelf.finish(job, digest)
        except BaseException:
            with self._changed:
                self._shelf.give_up(job)
            raise
        finally:
            with self._changed:
                self._changed.notify_all()

    def _bring(self, job: Job, check: Callable[[], None]) -> str:
        if job.is_leftover and _is_whole(job, check):
            return job.name[:64]
        try:
            return self._fetch(job, check)
        except Damaged:
            # The way here can damage bytes too; only what stays wrong is wrong over there.
            return self._fetch(job, check)

    def _fetch(self, job: Job, check: Callable[[], None]) -> str:
        job.path.unlink(missing_ok=True)
        digester, wanted = Digester(), job.wanted
        fetch(self._store, wanted.key, job.path, size=wanted.size, digester=digester, check=check)
        found = digester.sha256()
        if wanted.sha256 not in (None, found):
            raise Damaged(
                f"{wanted.key} in {self._store.url}: its digest is {found}, expected {wanted.sha256}; "
                "restore it; where an index gave that digest, write it anew: perdure index"
            )
        return found

    def _work(self) -> None:
        """Fetch ahead until the end."""
        while (job := self._next_ahead()) is not None:
            try:
                content = self._run(job, partial(self._check_job, job))
            except _Cancelled:
                continue
            except Exception as error:  # noqa: BLE001 - `acquire` tries again and then raises it
                _log.info("%s: not fetched ahead: %s", job.wanted.key, error)
                continue
            with self._changed:
                self._unpin(content)

    def _next_ahead(self) -> Job | None:
        """The next shard to fetch ahead, as soon as there is one that fits; None at the end."""
        with self._changed:
            while not self._closed:
                job = None if self._num_waiting else self._shelf.begin_ahead()
                if job is not None:
                    return job
                self._changed.wait()
            return None

    def _unpin(self, content: Content) -> None:
        content.num_pins -= 1
        self._changed.notify_all()

    def _check_open(self) -> None:
        self._check()
        if self._closed:
            raise ValueError("the cache is closed")

    def _check_job(self, job: Job) -> None:
        if job.cancelled or self._closed:
            raise _Cancelled


class _Cancelled(Exception):
    """The space is needed for something earlier, or the cache is closed."""


def _is_whole(job: Job, check: Callable[[], None]) -> bool:
    digester = Digester()
    with suppress(Damaged, StoreError):
        digest_file(job.path, size=job.wanted.size, digester=digester, check=check)
    return job.name.startswith(digester.sha256())


def _plain(shard: ShardVersion) -> Wanted:
    """Only what is needed: a ledger's shard may carry much more."""
    return Wanted(shard.key, shard.size, shard.sha256)
