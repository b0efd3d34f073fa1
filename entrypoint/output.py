"""Where the answers of a trained model, or its scores, are written."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cloud.open import open_store
from cloud.store import Store, Writer
from cloud.transfer import file_errors
from entrypoint.errors import SettingsError
from entrypoint.places import options
from entrypoint.settings import JobConfig

STANDARD = "-"


def place_of(config: JobConfig, url: str, *, writable: bool) -> tuple[Store, str]:
    """The store and the key of one object; SettingsError for a URL that ends with "/"."""
    folder, _, key = url.rpartition("/")
    if not key or folder.endswith(":/"):
        raise SettingsError(f"{url}: names a folder; name a file in it")
    return open_store(folder, options(config), writable=writable), key


@contextmanager
def opened_output(config: JobConfig) -> Iterator[Writer]:
    """Where answers are written. A file or object appears when the block ends, whole; after an error nothing does."""
    path = Path(config.output)
    if config.output in ("", STANDARD):
        yield _Stdout()
    elif "://" in config.output:
        store, key = place_of(config, config.output, writable=True)
        with store.writer(key) as writer:
            yield writer
    else:
        with file_errors(path), _special(path) if path.exists() and not path.is_file() else _renamed(path) as file:
            yield file


@contextmanager
def _renamed(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that gets its name in the end."""
    if not path.parent.is_dir():
        raise SettingsError(f"--output {path}: there is no folder {path.parent}; make it")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _special(path: Path) -> BinaryIO:
    """A pipe or a device, which keeps its place."""
    if path.is_dir():
        raise SettingsError(f"--output {path}: is a folder; name a file in it")
    return path.open("wb")


class _Stdout:
    """The standard output, batch by batch. A reader that goes away ends the output, never the work."""

    def __init__(self) -> None:
        self._gone = False

    def write(self, data: bytes | memoryview, /) -> int:
        if not self._gone:
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                self._gone = True
        return len(data)
