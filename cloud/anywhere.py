"""Any other place that fsspec knows (sftp, hdfs, http, hf ...), for reading only."""

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from cloud.errors import AccessDenied, NoSuchBucket, Unreachable, UrlError
from cloud.listing import key_order
from cloud.store import Entry, Writer
from cloud.urls import check_key, join_url, without_credentials

_VERSION_FIELDS = ("ETag", "etag", "checksum", "mtime", "last_modified", "LastModified", "modified", "created")


class AnywhereStore:
    """A folder of an fsspec file system; `url` may hold `user:password@`, which is used and not shown.

    Raises UrlError when fsspec, or the package it needs for this scheme, is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = without_credentials(url)
        self._files, root = _connect(url, self._url)
        self._begin = root.rstrip("/") + "/"

    @property
    def url(self) -> str:
        """The place as the user named it, without credentials."""
        return self._url

    @property
    def can_create(self) -> bool:
        """False: nothing can be written."""
        return False

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """As `Store.list`; holds the whole listing, as fsspec gives it."""
        folder = self._begin + prefix.rpartition("/")[0]
        with self._translated(""):
            self._files.invalidate_cache()  # fsspec would repeat what it listed before
            if not self._files.exists(self._begin.rstrip("/") or "/"):
                raise NoSuchBucket(f"{self.url}: no such folder; mend the URL")
            found = self._files.find(folder, detail=True)
        entries = (_entry(path.removeprefix(self._begin), info) for path, info in found.items())
        for entry in sorted(entries, key=lambda entry: key_order(entry.key)):
            if entry.key.startswith(prefix) and key_order(entry.key) > key_order(start_after):
                yield entry

    def stat(self, key: str) -> Entry:
        """As `Store.stat`."""
        with self._translated(key):
            self._files.invalidate_cache()
            info = self._files.info(self._path(key))
            if info["type"] != "file":
                raise FileNotFoundError
            return _entry(key, info)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """As `Store.read`."""
        size = self.stat(key).size
        end = size if end is None else min(end, size)
        if start >= end:
            return b""
        with self._translated(key):
            return bytes(self._files.cat_file(self._path(key), start=start, end=end))

    def view(self, key: str, start: int, end: int) -> memoryview:
        """As `Store.view`."""
        return memoryview(self.read(key, start, end))

    def put(self, key: str, data: bytes) -> None:
        """UrlError: nothing can be written."""
        self._refuse()

    def create(self, key: str, data: bytes) -> None:
        """UrlError: nothing can be written."""
        self._refuse()

    def writer(self, key: str) -> AbstractContextManager[Writer]:
        """UrlError: nothing can be written."""
        self._refuse()

    def delete(self, key: str) -> None:
        """UrlError: nothing can be deleted."""
        self._refuse()

    def discard_unfinished(self, which: Callable[[str], bool]) -> int:
        """0: nothing is written here."""
        return 0

    def local_path(self, key: str) -> Path | None:
        """None: nothing here is a file of this machine."""
        return None

    def _refuse(self) -> NoReturn:
        raise UrlError(f"{self.url}: can only be read")

    def _path(self, key: str) -> str:
        return self._begin + check_key(self.url, key)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        where = join_url(self.url, key) if key else self.url
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object", where) from None
        except PermissionError as error:
            raise AccessDenied(f"access denied to {where}: {error.strerror or 'refused'}") from None
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{where}: {type(error).__name__}: no usable answer") from None


def _connect(url: str, shown: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise UrlError(f"{shown}: URLs of this kind need fsspec; install perdure[fsspec]") from None
    try:
        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:  # its text names the package
        raise UrlError(f"{shown}: {error}") from None
    except ValueError:
        raise UrlError(f"{shown}: no store is known for such URLs; mend the scheme") from None
    except PermissionError:
        raise AccessDenied(f"access denied to {shown}") from None
    except OSError as error:
        raise Unreachable(f"{shown}: {type(error).__name__} while connecting") from None
    return files, str(root)


def _entry(key: str, info: dict[str, Any]) -> Entry:
    version = next((str(info[name]) for name in _VERSION_FIELDS if info.get(name)), "")
    return Entry(key, int(info["size"] or 0), version)
