"""The one interface that every place for bytes implements, and what it promises."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as a listing shows it.

    `version` changes whenever the content does (ETag, generation, mtime); a copy of the same content has
    another one. It is a shortcut, never an identity.
    """

    key: str
    size: int
    version: str


class Writer(Protocol):
    """Where a streamed object's bytes go, in order."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Take all of `data`, which the caller must not change afterwards, and return its length."""


class Store(Protocol):
    """A prefix in some place for bytes. Keys are relative to it, with "/" between parts.

    Guaranteed: an object appears whole or not at all; a finished write is seen by the next listing and read.
    A missing key raises FileNotFoundError, everything else an error of `cloud.errors`; of those only
    `Unreachable` is worth a retry. Every method can be called from any thread, none from a forked child.
    """

    @property
    def url(self) -> str:
        """The place as the user named it, without credentials, for messages."""

    @property
    def can_create(self) -> bool:
        """Whether `create` refuses an existing key. Where it cannot (OBS), `create` is a plain `put`."""

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """Objects whose key starts with `prefix` and sorts after `start_after`, sorted by the key's UTF-8 bytes.

        Raises NoSuchBucket where the place itself is missing; an empty place yields nothing.
        """

    def stat(self, key: str) -> Entry:
        """Size and version of one object."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes [start, end) of one object; all from `start` when `end` is None. Shorter past its end."""

    def view(self, key: str, start: int, end: int) -> memoryview:
        """As `read`, for large ranges: without the copy that `bytes` are, where the store can."""

    def put(self, key: str, data: bytes) -> None:
        """Write a small object whole, over whatever was there."""

    def create(self, key: str, data: bytes) -> None:
        """Write a small object whole; FileExistsError when the key is taken (see `can_create`)."""

    def writer(self, key: str) -> AbstractContextManager[Writer]:
        """Stream an object of any size. It appears when the block ends; after an exception nothing does."""

    def delete(self, key: str) -> None:
        """Remove one object; a missing one is fine."""

    def discard_unfinished(self, which: Callable[[str], bool]) -> int:
        """Remove the parts that killed writers of the keys that `which` picks had sent; how many such writers.

        What cannot be found or removed stays: it is no object, and an error is no reason to stop.
        """

    def local_path(self, key: str) -> Path | None:
        """Where the object can be read as a file without a copy; None where it cannot."""
