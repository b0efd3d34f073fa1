"""What no store took, saved on this machine: an output folder by itself, which the next submission here finds."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from cloud.errors import Damaged
from cloud.folder import Chosen, OutputFolder
from cloud.held import HeldFolder
from cloud.open import open_store
from cloud.store import Store, Writer
from cloud.transfer import PART_BYTES
from cloud.urls import parse_url
from entrypoint.console import Console
from entrypoint.places import cache_directory
from entrypoint.settings import JobConfig

UNPUBLISHED = "unpublished"


class Aside:
    """The folder for one `train_url`, below that of the cache. It holds one checkpoint at most, the newest."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        url = parse_url(self._config.train_url)
        digest = hashlib.sha256(repr((url.scheme, url.parts)).encode()).hexdigest()[:12]
        return cache_directory(self._config) / UNPUBLISHED / "-".join([*url.parts[-1:], digest])

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
        found = OutputFolder(store).choose(scratch, check, start_over=True)
        if found is None or found.lost:
            return chosen
        place = self.path / found.record.object.key
        try:
            known = folder.knows(store, found.record.attempt)
        except (Damaged, FileNotFoundError) as error:
            console.warning(f"passed over {place}: whose it is cannot be read: {error}")
            return chosen
        if not known:
            console.warning(f"passed over {place}: saved for a folder that is gone")
            return chosen
        if chosen is None or found.record.place.order > chosen.record.place.order:
            chosen = _committed(folder, store, found, scratch, chosen)
            console.line("checkpoint", f"{found.record.name}, saved in {self.path}, is now {chosen.record.name}")
        shutil.rmtree(self.path, ignore_errors=True)
        return chosen


def _committed(folder: HeldFolder, store: Store, found: Chosen, scratch: Path, before: Chosen | None) -> Chosen:
    old = found.record
    for file in old.ledgers:
        folder.put_back_ledger(file, store.read(file.key))
    record = folder.publish(
        old.epoch,
        old.place.step,
        partial(_copy, found.path),
        global_step=old.global_step,
        round=old.round,
        ledgers=old.ledgers,
        metrics=old.metrics,
        settings=old.settings,
        net_sha256=old.net_sha256,
        learning_rate=old.learning_rate,
    )
    path = scratch / record.object.key
    shutil.move(found.path, path)
    return replace(found, record=record, path=path, is_copy=True, rejected=before.rejected if before else ())


def _copy(path: Path, writer: Writer) -> None:
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            writer.write(data)
