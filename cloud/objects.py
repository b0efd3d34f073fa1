"""Buckets, containers and process memory as stores, through obstore."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import obstore.exceptions

from cloud.answers import Asker, means_past_end, translated
from cloud.listing import all_begun, folders_out_of_place, in_key_order, key_order
from cloud.store import Entry, Writer
from cloud.unfinished import UnfinishedUploads
from cloud.urls import check_key

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta, WritableFile
    from obstore.store import ObjectStore as Backend

PART_BYTES = 16 * 2**20
"""Size of a part of a streamed object. S3 takes 10,000 of them: objects of up to 156 GiB."""

NUM_PARALLEL_PARTS = 4
LIST_ENTRIES = 1000


@dataclass(frozen=True, kw_only=True)
class Place:
    """A prefix of a bucket and how to reach it.

    `uploads` is the same bucket with more patience, for bodies that take long to send. `in_order`: the server
    lists by the keys' bytes; other listings are sorted here.
    """

    asker: Asker
    prefix: str
    backend: "Backend"
    uploads: "Backend"
    can_create: bool = True
    in_order: bool = True
    unfinished: UnfinishedUploads | None = None


class BucketStore:
    """A `Place` as a store. Bytes that are handed over are copied unless they are immutable already."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._backend = place.backend

    @property
    def url(self) -> str:
        """The place as the user named it, without credentials."""
        return self._place.asker.url

    @property
    def can_create(self) -> bool:
        """Whether this kind of store has create-only puts."""
        return self._place.can_create

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """As `Store.list`."""
        found = self._pages(prefix, start_after)
        if not self._place.in_order:
            astray = [self._pages(folder, "") for folder in folders_out_of_place(start_after)]
            found = in_key_order(all_begun([found, *astray]))
        after = key_order(start_after)
        return (entry for entry in found if entry.key.startswith(prefix) and key_order(entry.key) > after)

    def stat(self, key: str) -> Entry:
        """As `Store.stat`."""
        path = self._path(key)
        with self.translated(key):
            return _entry(key, obstore.head(self._backend, path))

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """As `Store.read`."""
        return bytes(self._read(key, start, end))

    def view(self, key: str, start: int, end: int) -> memoryview:
        """As `Store.view`: of the memory that the answer came into."""
        return memoryview(self._read(key, start, end))

    def put(self, key: str, data: bytes) -> None:
        """As `Store.put`."""
        path = self._path(key)
        with self.translated(key, writing=True):
            obstore.put(self._backend, path, bytes(data), use_multipart=False)

    def create(self, key: str, data: bytes) -> None:
        """As `Store.create`."""
        if not self.can_create:
            self.put(key, data)
            return
        path = self._path(key)
        with self.translated(key, writing=True, creating=True):
            obstore.put(self._backend, path, bytes(data), mode="create", use_multipart=False)

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        """As `Store.writer`. After an exception a multipart upload that has begun is aborted.

        A process that dies leaves the parts it has sent, invisible: see `discard_unfinished`.
        """
        path = self._path(key)
        upload = obstore.open_writer(
            self._place.uploads, path, buffer_size=PART_BYTES, max_concurrency=NUM_PARALLEL_PARTS
        )
        try:
            yield _UploadWriter(self, key, upload)
        except BaseException as error:
            with suppress(obstore.exceptions.BaseError, OSError):
                upload.__exit__(type(error), error, error.__traceback__)  # aborts, as it does for any exception
            raise
        with self.translated(key, writing=True):
            upload.close()

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        path = self._path(key)
        with suppress(FileNotFoundError), self.translated(key):
            obstore.delete(self._backend, path)

    def discard_unfinished(self, which: Callable[[str], bool]) -> int:
        """As `Store.discard_unfinished`, in S3 and OBS; Azure forgets such parts after a week by itself."""
        unfinished = self._place.unfinished
        return 0 if unfinished is None else unfinished.abort(self._place.prefix, which)

    def local_path(self, key: str) -> Path | None:
        """None: nothing here is a file."""
        return None

    def _read(self, key: str, start: int, end: int | None) -> "bytes | obstore.Bytes":
        path = self._path(key)
        if end is not None and end <= start:
            self.stat(key)
            return b""
        with self.translated(key):
            try:
                return self._get(path, start, end)
            except obstore.exceptions.GenericError as error:
                if means_past_end(error):
                    return b""
                raise

    def _get(self, path: str, start: int, end: int | None) -> "obstore.Bytes":
        if end is not None:
            return obstore.get_range(self._backend, path, start=start, end=end)
        options: GetOptions = {"range": {"offset": start}} if start else {}
        return obstore.get(self._backend, path, options=options).bytes()

    def _pages(self, prefix: str, start_after: str) -> Iterator[Entry]:
        """What the server lists for a prefix, in its order; perhaps more than asked for."""
        begin = self._place.prefix
        full = begin + prefix
        folder = full.rpartition("/")[0]
        offset = begin + start_after if start_after else None
        with self.translated(""):
            for page in obstore.list(self._backend, folder or None, offset=offset, chunk_size=LIST_ENTRIES):
                for found in page:
                    if found["path"].startswith(full):
                        yield _entry(found["path"][len(begin) :], found)

    def _path(self, key: str) -> str:
        return self._place.prefix + check_key(self.url, key)

    @contextmanager
    def translated(self, key: str, *, writing: bool = False, creating: bool = False) -> Iterator[None]:
        """Errors of obstore as those of `cloud.errors`."""
        try:
            yield
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise translated(error, self._place.asker, key, writing=writing, creating=creating) from None


class _UploadWriter:
    def __init__(self, store: BucketStore, key: str, upload: "WritableFile") -> None:
        self._store, self._key, self._upload = store, key, upload

    def write(self, data: bytes | memoryview, /) -> int:
        """As `Writer.write`. obstore keeps what it is given until the part is sent: what may change is copied."""
        with self._store.translated(self._key, writing=True):
            return self._upload.write(data if memoryview(data).readonly else bytes(data))


def _entry(key: str, found: "ObjectMeta") -> Entry:
    """Listings and answers to HEAD quote the ETag differently on Azure."""
    version = (found["e_tag"] or "").removeprefix("W/").strip('"')
    return Entry(key, found["size"], version or found["version"] or found["last_modified"].isoformat())
