"""Reading files of the output folder and comparing every byte with the digests in a record."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cloud.errors import Damaged, StoreError
from cloud.fetched import Fetched
from cloud.names import CheckpointName
from cloud.records import FileDigest, Record
from cloud.sealed import load
from cloud.store import Store
from cloud.transfer import Digester, digest_file, digest_object, fetch_parts

MAX_LEDGER_BYTES = 2**30

Result = TypeVar("Result")


def file_digest(key: str, digester: Digester) -> FileDigest:
    """What a record says of a file whose bytes went through `digester`."""
    return FileDigest(key=key, size=digester.size, chunks=digester.chunks())


def load_record(store: Store, name: CheckpointName) -> Record:
    """The record of a checkpoint; Damaged when it still cannot be read the second time, or is another one's."""
    record = twice(lambda: load(store, name.record_key, Record))
    if record.place != name:
        raise Damaged(f"{name.record_key}: the record of {record.name}")
    return record


def read_verified(store: Store, file: FileDigest) -> bytes:
    """All bytes of a small file; Damaged when they are still wrong after a second reading."""
    if file.size > MAX_LEDGER_BYTES:
        raise Damaged(f"{file.key}: {file.size:,} bytes are more than any ledger has")
    return twice(lambda: _read(store, file))


def whole_file(store: Store, file: FileDigest, check: Callable[[], None]) -> Path | Fetched:
    """The verified file where it is, or fetched into memory. Damaged when it is still wrong the second time."""
    path = store.local_path(file.key)
    if path is not None:
        verify_in_place(store, file, path, check)
        return path
    return twice(lambda: _fetched(store, file, check))


def verify_in_place(store: Store, file: FileDigest, path: Path, check: Callable[[], None]) -> None:
    """Digest a file of a local store where it is; Damaged when it is still wrong after a second reading."""
    twice(lambda: _digest(store, file, path, check))


def verify(store: Store, file: FileDigest, check: Callable[[], None]) -> None:
    """Digest a file wherever it is, in place or as it arrives; Damaged when it is still wrong the second time."""
    if (size := store.stat(file.key).size) != file.size:
        raise Damaged(f"{file.key}: {size_difference(size, file.size)}")
    path = store.local_path(file.key)
    if path is not None:
        verify_in_place(store, file, path, check)
    else:
        twice(lambda: _digest_far(store, file, check))


def size_difference(size: int, expected: int) -> str:
    """Words for a file of another size than its record says."""
    if size == 0:
        return "empty"
    return f"{size:,} bytes, the record says {expected:,}: {'truncated' if size < expected else 'damaged'}"


def twice(read: Callable[[], Result]) -> Result:
    """What `read` returns; Damaged only when it comes twice."""
    # The way here can damage bytes too; only what stays wrong is wrong over there.
    with suppress(Damaged):  # whose frames hold what was read: they are gone before it is read again
        return read()
    return read()


def _read(store: Store, file: FileDigest) -> bytes:
    data = store.read(file.key, 0, file.size + 1)
    digester = Digester(chunked=True)
    digester.update(data)
    _compare(file, digester)
    return data


def _fetched(store: Store, file: FileDigest, check: Callable[[], None]) -> Fetched:
    digester = Digester(chunked=True)
    parts = fetch_parts(store, file.key, size=file.size, digester=digester, check=check)
    _compare(file, digester)
    return Fetched(file.key.rpartition("/")[2], parts)


def _digest(store: Store, file: FileDigest, path: Path, check: Callable[[], None]) -> None:
    digester = Digester(chunked=True)
    try:
        digest_file(path, size=file.size, digester=digester, check=check)
    except StoreError:
        # A file pruned under our hands is FileNotFoundError here, which says more than an unreadable one.
        store.stat(file.key)
        raise
    _compare(file, digester)


def _digest_far(store: Store, file: FileDigest, check: Callable[[], None]) -> None:
    digester = Digester(chunked=True)
    digest_object(store, file.key, size=file.size, digester=digester, check=check)
    _compare(file, digester)


def _compare(file: FileDigest, digester: Digester) -> None:
    where = f"{file.key}: "
    if digester.size != file.size:
        raise Damaged(where + size_difference(digester.size, file.size))
    for i, (found, expected) in enumerate(zip(digester.chunks(), file.chunks, strict=False), 1):
        if found != expected:
            raise Damaged(f"{where}digest of chunk {i} differs: damaged")
    if len(digester.chunks()) != len(file.chunks):
        raise Damaged(f"{where}the record names {len(file.chunks)} chunks of {len(digester.chunks())}")
