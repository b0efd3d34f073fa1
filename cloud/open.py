"""From a URL to a store."""

from pathlib import Path

from cloud.anywhere import AnywhereStore
from cloud.backends import StoreOptions, place
from cloud.errors import UrlError
from cloud.local import LocalStore
from cloud.objects import BucketStore
from cloud.retry import RetryingStore
from cloud.store import Store
from cloud.urls import is_same, join_url, overlap, parse_url, without_credentials

__all__ = ["StoreOptions", "is_same", "join_url", "open_store", "overlap"]


def open_store(url: str, options: StoreOptions | None = None, *, writable: bool = False) -> Store:
    """The store at a path or URL: `./run`, `file:///data`, `s3://`, `obs://`, `gs://`, `az://`, `memory://`.

    Other schemes go to fsspec and are for reading only. With `writable` a missing local folder is made. No
    request is sent. Raises UrlError for what cannot be used, AccessDenied for a folder that may not be written.
    """
    options = options or StoreOptions()
    return RetryingStore(_open(url, options, writable), options.retry_seconds)


def _open(text: str, options: StoreOptions, writable: bool) -> Store:
    url = parse_url(text)
    if url.scheme == "file":
        return LocalStore(text, Path(url.path), writable=writable)
    if found := place(text, url, options):
        return BucketStore(found)
    if writable:
        raise UrlError(f"{without_credentials(text)}: can only be read; write to a folder, s3, obs, gs or az")
    return AnywhereStore(text)
