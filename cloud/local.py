"""A local folder as a store: objects appear whole, survive a power cut, and no symbolic link is followed."""

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from cloud.descriptors import (
    FOLDER,
    make_folder,
    make_subfolder,
    meaning,
    means_no_object,
    new_file,
    opened_file,
    opened_folder,
    remove_unlocked,
    sync,
    write_all,
)
from cloud.errors import Damaged, NoSuchBucket, UrlError
from cloud.listing import key_order
from cloud.store import Entry, Writer
from cloud.urls import check_key, join_url

STAGING = ".partial"
"""The folder in the root where objects are written before they get their name; never listed."""

_log = logging.getLogger(__name__)

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class LocalStore:
    """A folder. With `writable` it is made when missing, and what killed writers left in it is cleared away.

    Objects are written to `.partial/`, synced, and renamed (`put`) or linked (`create`) to their name. Each
    writer holds a lock on its file there, so that a file without a holder is known as a leftover.
    Raises AccessDenied, StoreFull, UrlError for a folder that cannot be used.
    """

    def __init__(self, url: str, root: Path, *, writable: bool = False) -> None:
        self._url = url
        self._root = root
        self._has_links = True
        if writable:
            with self._translated("", writing=True):
                self._has_links = self._prepare()

    @property
    def url(self) -> str:
        """The folder as the user named it."""
        return self._url

    @property
    def can_create(self) -> bool:
        """False on file systems without hard links, as some mounted buckets are."""
        return self._has_links

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """As `Store.list`; holds one folder's names per level. Raises Damaged for a name that is not UTF-8."""
        with self._translated(""), self._folder(()) as root:
            yield from self._walk(root, "", prefix, start_after)

    def stat(self, key: str) -> Entry:
        """As `Store.stat`."""
        with self._reading(key) as file:
            return _entry(key, os.fstat(file.fileno()))

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """As `Store.read`."""
        with self._reading(key) as file:
            file.seek(start)
            return file.read() if end is None else file.read(max(0, end - start))

    def view(self, key: str, start: int, end: int) -> memoryview:
        """As `Store.view`."""
        return memoryview(self.read(key, start, end))

    def put(self, key: str, data: bytes) -> None:
        """As `Store.put`."""
        with self.writer(key) as writer:
            writer.write(data)

    def create(self, key: str, data: bytes) -> None:
        """As `Store.create`."""
        with self._staged(key, create=self.can_create) as writer:
            writer.write(data)

    def writer(self, key: str) -> AbstractContextManager[Writer]:
        """As `Store.writer`."""
        return self._staged(key, create=False)

    def delete(self, key: str) -> None:
        """As `Store.delete`; an emptied folder stays, since another writer may be about to use it."""
        folders, name = self._split(key)
        with suppress(FileNotFoundError), self._translated(key), self._folder(folders) as folder:
            os.unlink(name, dir_fd=folder)
            sync(folder)

    def discard_unfinished(self, which: Callable[[str], bool]) -> int:
        """0: what killed writers left was cleared away when the folder was opened."""
        return 0

    def local_path(self, key: str) -> Path | None:
        """The file itself; None when it is not there."""
        try:
            self.stat(key)
        except FileNotFoundError:
            return None
        return self._root / key

    def _walk(self, folder: int, under: str, prefix: str, start_after: str) -> Iterator[Entry]:
        """Entries of an open folder, whose keys begin with `under`, and of those in it."""
        for name in self._names(folder, under):
            key = under + name
            if name.endswith("/") and _may_hold(key, prefix, start_after):
                with suppress(FileNotFoundError, NotADirectoryError), opened_folder(name[:-1], folder) as inner:
                    yield from self._walk(inner, key, prefix, start_after)
            elif key.startswith(prefix) and key_order(key) > key_order(start_after) and not name.endswith("/"):
                with suppress(FileNotFoundError):
                    yield _entry(key, os.stat(name, dir_fd=folder, follow_symlinks=False))

    def _names(self, folder: int, under: str) -> Sequence[str]:
        """The files and folders of an open folder in the order of their keys; a folder's name ends with "/"."""
        with os.scandir(folder) as found:
            items = list(found)
        self._name_links([under + item.name for item in items if item.is_symlink() and item.name[0] not in "._"])
        names = [_listed_name(item, under) for item in items]
        for name in names:
            if any("\udc80" <= char <= "\udcff" for char in name):
                raise Damaged(f"{self.url}: the name {(under + name)!r} is not UTF-8; rename it")
        return sorted(filter(None, names), key=key_order)

    def _name_links(self, links: Sequence[str]) -> None:
        if links:
            _log.warning(
                "passed over %d symbolic links in %s, such as %s; put the files themselves there", len(links), self.url,
                links[0],
            )  # fmt: skip

    @contextmanager
    def _reading(self, key: str) -> Iterator[BinaryIO]:
        folders, name = self._split(key)
        with self._translated(key), self._folder(folders) as folder, opened_file(name, folder) as file:
            yield file

    @contextmanager
    def _staged(self, key: str, *, create: bool) -> Iterator[Writer]:
        """A writer whose file gets the name `key` at the end. The block's own errors are not translated."""
        folders, name = self._split(key)
        temporary = uuid4().hex
        with ExitStack() as stack:
            with self._translated(key, writing=True):
                staging = stack.enter_context(self._folder((STAGING,), make=True))
                file = stack.enter_context(new_file(temporary, staging))
            yield _StagedWriter(file, self._where(key))
            with self._translated(key, writing=True), self._folder(folders, make=True) as folder:
                os.fsync(file)
                publish = os.link if create else os.rename
                publish(temporary, name, src_dir_fd=staging, dst_dir_fd=folder)
                sync(folder)

    @contextmanager
    def _folder(self, names: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """A folder below the root, opened step by step so that no symbolic link can be on the way.

        The root itself is not made again: when it goes away during a run, what was in it has gone too.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(self._open_root())
            for name in names:
                if make:
                    make_subfolder(name, folder)
                folder = stack.enter_context(opened_folder(name, folder))
            yield folder

    @contextmanager
    def _open_root(self) -> Iterator[int]:
        try:
            root = os.open(self._root, FOLDER)
        except FileNotFoundError:
            raise NoSuchBucket(f"{self.url}: no such folder; create it or mend the path") from None
        except NotADirectoryError:
            raise UrlError(f"{self.url}: is no folder, but a file or below one; name the folder") from None
        try:
            yield root
        finally:
            os.close(root)

    def _prepare(self) -> bool:
        """Make the folder, clear leftovers away, and find out whether its file system has hard links."""
        name = uuid4().hex
        make_folder(self._root)
        with self._folder((STAGING,), make=True) as staging, new_file(name, staging):
            remove_unlocked(staging)
            try:
                os.link(name, name + ".link", src_dir_fd=staging, dst_dir_fd=staging)
            except OSError as error:
                if error.errno in _NO_LINKS:
                    return False
                raise
            os.unlink(name + ".link", dir_fd=staging)
            return True

    def _split(self, key: str) -> tuple[tuple[str, ...], str]:
        *folders, name = check_key(self.url, key).split("/")
        return tuple(folders), name

    def _where(self, key: str) -> str:
        return join_url(self.url, key) if key else self.url

    @contextmanager
    def _translated(self, key: str, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if means_no_object(error) and not writing:
                raise FileNotFoundError(errno.ENOENT, "no such object", self._where(key)) from None
            raise meaning(error, self._where(key)) from error


class _StagedWriter:
    def __init__(self, file: int, where: str) -> None:
        self._file = file
        self._where = where

    def write(self, data: bytes | memoryview, /) -> int:
        """As `Writer.write`; a full disk says so here already."""
        try:
            return write_all(self._file, data)
        except OSError as error:
            raise meaning(error, self._where) from error


def _listed_name(item: os.DirEntry[str], under: str) -> str:
    """The name of a file, of a folder with "/", and "" for what is not listed."""
    if item.is_dir(follow_symlinks=False):
        return "" if item.name == STAGING and not under else item.name + "/"
    return item.name if item.is_file(follow_symlinks=False) else ""


def _may_hold(folder: str, prefix: str, start_after: str) -> bool:
    """Whether a folder (its key ends with "/") can hold keys that begin with `prefix` and sort after `start_after`."""
    wanted = folder.startswith(prefix) or prefix.startswith(folder)
    return wanted and (start_after.startswith(folder) or key_order(folder) > key_order(start_after))


def _entry(key: str, found: os.stat_result) -> Entry:
    return Entry(key, found.st_size, f"{found.st_mtime_ns}-{found.st_ino}")
