"""Shards opened as the task's sequences, and kept in memory from use to use while they fit."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from trainer.errors import DataError, NotAShard, reason
from trainer.ledger import Shard
from trainer.task import UNREADABLE, Task

_log = logging.getLogger(__name__)


class Shards(Protocol):
    """Where shards come from: local files that stay until released, fetched ahead of use."""

    def prefetch(self, wanted: Sequence[Shard], /) -> None:
        """Fetch these in the background, in this order; replaces what was asked for before."""

    def file_of(self, wanted: Shard, /) -> AbstractContextManager[tuple[Path, str]]:
        """A local file with the shard's content, and its SHA-256. Waits for it; it stays until the end."""


class OpenShards:
    """Sequences by content. One that says how much memory it holds (`nbytes`) needs its file no longer and is kept.

    What has no room in `memory_bytes` and can be moved to disk (`spill`) is kept in `folder`, up to `disk_bytes`.
    """

    def __init__(
        self, task: Task, shards: Shards, memory_bytes: int, *, folder: Path | None = None, disk_bytes: int = 0
    ) -> None:
        self.task = task
        self._shards = shards
        self._memory_bytes = memory_bytes
        self._folder, self._disk_bytes = folder, disk_bytes
        self._kept: OrderedDict[str, Sequence[Any]] = OrderedDict()
        self._lock = Lock()

    def prefetch(self, wanted: Sequence[Shard]) -> None:
        """Have these fetched ahead, but for those in memory."""
        with self._lock:
            missing = [shard for shard in wanted if shard.sha256 not in self._kept]
        if missing:  # what is in memory must not take the place of what others wish for
            self._shards.prefetch(missing)

    @contextmanager
    def open(self, shard: Shard) -> Iterator[Sequence[Any]]:
        """The shard's examples; DataError when it cannot be read or holds another number than the census found."""
        with self._lock:
            kept = self._kept.get(shard.sha256)
            if kept is not None:
                self._kept.move_to_end(shard.sha256)
        if kept is not None:
            yield kept
            return
        with self._shards.file_of(shard) as (path, sha256), self.read(shard.key, path, sha256) as examples:
            yield examples

    @contextmanager
    def read(self, key: str, path: Path, sha256: str) -> Iterator[Sequence[Any]]:
        """The examples of a local file, kept afterwards if they may be."""
        try:
            examples = self.task.read(path)
        except NotAShard:
            raise
        except DataError as error:
            raise DataError(f"{key}: {error}") from error
        except UNREADABLE as error:
            raise DataError(f"{key}: cannot be read: {reason(error)}; replace or remove it") from error
        self._keep(sha256, examples)
        try:
            yield examples
        finally:
            if not self._is_kept(sha256, examples):
                close(examples)

    def _keep(self, sha256: str, examples: Sequence[Any]) -> None:
        """Keep what needs no file; the longest unused ones that have no room go to the disk, or are forgotten."""
        if not hasattr(examples, "nbytes"):
            return
        with self._lock:
            self._kept[sha256] = examples
            total = sum(num_bytes(kept) for kept in self._kept.values())
            for oldest in list(self._kept):
                if total <= self._memory_bytes:
                    break
                total -= num_bytes(self._kept[oldest])
                if num_bytes(self._kept[oldest]) and not self._spill(self._kept[oldest]):
                    del self._kept[oldest]

    def _is_kept(self, sha256: str, examples: Sequence[Any]) -> bool:
        """Whether it stays after its use; what had no room in memory may have been decoded by it."""
        with self._lock:
            if sha256 not in self._kept and self._spill(examples):
                self._kept[sha256] = examples
            return sha256 in self._kept

    def _spill(self, examples: Sequence[Any]) -> bool:
        """Move a sequence to the disk, if it can be and there is room."""
        if self._folder is None or not hasattr(examples, "spill") or num_bytes(examples) > self._disk_bytes:
            return False
        try:
            taken = int(examples.spill(self._folder))
        except OSError as error:
            _log.warning("%s: decoded shards cannot be kept there: %s; they are decoded each time", self._folder, error)
            self._disk_bytes = 0
            return False
        self._disk_bytes -= taken
        return taken > 0


def num_bytes(examples: Sequence[Any]) -> int:
    """The memory that a sequence says it holds."""
    return int(getattr(examples, "nbytes", 0))


def close(examples: Sequence[Any]) -> None:
    """Close a sequence that holds files open."""
    with suppress(AttributeError):
        examples.close()  # type: ignore[attr-defined]
