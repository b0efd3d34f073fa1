"""What no store took, saved on this machine: an output folder by itself, which the next submission here finds."""

import errno
import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from cloud.errors import Damaged
from cloud.folder import Chosen, OutputFolder
from cloud.held import HeldFolder
from cloud.names import frozen_digest
from cloud.open import open_store
from cloud.records import FileDigest
from cloud.store import Store, Writer
from cloud.transfer import PART_BYTES
from cloud.urls import parse_url
from entrypoint.console import Console
from entrypoint.places import cache_directory
from entrypoint.settings import JobConfig

UNPUBLISHED = "unpublished"
MAX_NAME_BYTES = 100
"""Of the last part of a `train_url`: keys may be far longer than the names of folders."""


class Aside:
    """The folder for one `train_url`, below that of the cache. It holds one checkpoint at most, the newest."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        url = parse_url(self._config.train_url)
        digest = hashlib.sha256(repr((url.scheme, url.parts)).encode()).hexdigest()[:12]
        name = url.parts[-1].encode(errors="replace")[:MAX_NAME_BYTES].decode(errors="ignore")
        return cache_directory(self._config) / UNPUBLISHED / f"{name}-{digest}"

    def open(self) -> Store:
        """It as a store, made when missing."""
        return open_store(str(self.path), writable=True)

    def take_back(
        self, folder: HeldFolder, chosen: Chosen | None, scratch: Path, check: Callable[[], None], console: Console
    ) -> Chosen | None:
        """What to continue from: `chosen`, or what an earlier attempt had to leave here, now committed to `folder`.

        That counts only if nothing newer was committed since, and the folder is still the one it was trained for.
        """
        if not self.path.is_dir():
            return chosen
        store = self.open()
        try:
            found = self._found(folder, store, check)
        except (Damaged, FileNotFoundError) as error:
            why = f"{error.filename}: {error.strerror}" if isinstance(error, FileNotFoundError) else error
            console.warning(f"passed over what is saved in {self.path}: {why}; remove that folder when it is of no use")
            return chosen
        if found is not None and (chosen is None or found.record.place.order > chosen.record.place.order):
            chosen = _committed(folder, store, found, scratch, chosen)
            console.line("checkpoint", f"{found.record.name}, saved in {self.path}, is now {chosen.record.name}")
        self._remove(store, found)
        return chosen

    def _found(self, folder: HeldFolder, store: Store, check: Callable[[], None]) -> Chosen | None:
        """What is saved here, whole and of this folder; None for nothing. Damaged or FileNotFoundError else."""
        reading = OutputFolder(store)
        try:
            found = reading.choose(check)
        except Damaged as error:
            raise Damaged(reading.rejected[0].reason) from error  # without the advice, which is for an output folder
        if found is None:
            return None
        if not folder.knows(store, found.record.attempt):
            raise Damaged(f"{found.record.name} was saved for a folder that is gone")
        for file in found.lost:
            folder.read_ledger(file)  # whole there, or an error
        return found

    def _remove(self, store: Store, found: Chosen | None) -> None:
        """The record first: what a kill leaves of the rest is not taken for a damaged checkpoint."""
        if found is not None:
            store.delete(found.record.place.record_key)
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self.path.parent.rmdir()  # unless there is another folder's


def _committed(folder: HeldFolder, store: Store, found: Chosen, scratch: Path, before: Chosen | None) -> Chosen:
    old = found.record
    for file in old.ledgers:
        if file not in found.lost:
            folder.put_back_ledger(file, store.read(file.key))
    paths, frozen = [_path(store, file) for file in old.parts], None
    if old.frozen is not None:
        frozen = folder.keep_frozen(frozen_digest(old.frozen.key) or "", partial(_copy, paths[1]))
    record = folder.publish(
        old.epoch,
        old.place.step,
        partial(_copy, paths[0]),
        global_step=old.global_step,
        round=old.round,
        ledgers=old.ledgers,
        frozen=frozen,
        metrics=old.metrics,
        settings=old.settings,
        net_sha256=old.net_sha256,
        learning_rate=old.learning_rate,
    )
    store.delete(old.place.record_key)  # before its object goes: a record always names bytes that are there
    names = [file.key.rpartition("/")[2] for file in record.parts]
    copy, *more = [Path(shutil.move(path, scratch / name)) for path, name in zip(paths, names, strict=True)]
    rejected = before.rejected if before else ()
    return Chosen(record, copy, rejected, {}, next(iter(more), None), is_copy=True)


def _path(store: Store, file: FileDigest) -> Path:
    path = store.local_path(file.key)
    if path is None:
        raise FileNotFoundError(errno.ENOENT, "no such file", file.key)
    return path


def _copy(path: Path, writer: Writer) -> None:
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            writer.write(data)
