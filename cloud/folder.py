"""Reading an output folder: what to continue from. `cloud.held` writes it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.choosing import Chooser, Chosen
from cloud.errors import Damaged
from cloud.names import CheckpointName, foreign_epoch
from cloud.records import FileDigest, Record, Rejected
from cloud.sealed import unseal_lines
from cloud.store import Store
from cloud.survey import Survey, survey
from cloud.transfer import Digester, fetch
from cloud.verifying import load_record, read_verified

__all__ = ["Chosen", "Foreign", "OutputFolder", "Rejected"]

NOTHING: Mapping[FileDigest, str] = {}


@dataclass(frozen=True)
class Foreign:
    """Somebody's own checkpoint, unverified; `path` is there until the next one is asked for."""

    name: str
    epoch: int
    path: Path


class OutputFolder:
    """What can be done without a claim. Not for several threads at once.

    `rejected` tells after `choose` and `records` what was not used and why. Records never change, so each is read
    once; the ledger files that `choose` verified are kept for `read_ledger`.
    """

    def __init__(self, store: Store) -> None:
        self.rejected: tuple[Rejected, ...] = ()
        self._store = store
        self._refused: frozenset[CheckpointName] = frozenset()
        self._known: dict[CheckpointName, Record] = {}
        self._ledgers: dict[FileDigest, bytes] = {}

    def records(self) -> list[Record]:
        """All records that can be read, newest first."""
        records, self.rejected = self._readable(survey(self._store))
        return records

    def choose(
        self,
        check: Callable[[], None],
        *,
        start_over: bool = False,
        given_up: Mapping[FileDigest, str] = NOTHING,
    ) -> Chosen | None:
        """The newest whole checkpoint, verified; in memory where the store is not local.

        Its ledger files may be lost, but none of its files is in `given_up`. None when the folder has no record.
        `check` is called often and may raise. Damaged when there are, or were, records and none can be used: None with
        `start_over`. An error of the store is raised, never a reason to take an older one.
        """
        chooser = Chooser(self._store, check, given_up)
        try:
            return chooser.choose()
        except Damaged:
            if start_over:
                return None
            raise
        finally:
            self.rejected = chooser.rejected
            self._refused = frozenset(chooser.bad)
            self._ledgers = chooser.ledgers

    def is_newest(self, chosen: Chosen | None) -> bool:
        """Whether the listing still leads to what `choose` gave: what was chosen before the claim may be old."""
        names = [name for name in survey(self._store).newest_first() if name not in self._refused]
        return names[:1] == ([] if chosen is None else [chosen.record.place])

    def foreign(self, directory: Path, check: Callable[[], None]) -> Iterator[Foreign]:
        """Somebody's own `ckpt_12.pth` and `ckpt_best_12.pth`, highest epoch first, fetched one at a time.

        Nothing when the folder has a record of ours.
        """
        found = survey(self._store)
        for epoch, key in [] if found.records else _highest_first(found):
            path = self._store.local_path(key)
            if path is not None:
                yield Foreign(key, epoch, path)
                continue
            copy = directory / key
            copy.unlink(missing_ok=True)
            try:
                fetch(self._store, key, copy, size=found.foreign[key].size, digester=Digester(), check=check)
                yield Foreign(key, epoch, copy)
            finally:
                copy.unlink(missing_ok=True)

    def read_ledger(self, file: FileDigest) -> Iterator[dict[str, Any]]:
        """The lines of a ledger file that a record names. Damaged, at the latest after the last line."""
        return unseal_lines(self._ledger_bytes(file))

    @property
    def ledgers(self) -> Mapping[FileDigest, bytes]:
        """The ledger files that were read so far, verified."""
        return self._ledgers

    def _ledger_bytes(self, file: FileDigest) -> bytes:
        if file not in self._ledgers:
            self._ledgers[file] = read_verified(self._store, file)
        return self._ledgers[file]

    def _readable(self, found: Survey) -> tuple[list[Record], tuple[Rejected, ...]]:
        """The records, newest first, and those that cannot be read; one pruned meanwhile is neither."""
        records: list[Record] = []
        unreadable: list[Rejected] = []
        for name in found.newest_first():
            try:
                records.append(self._record(name))
            except Damaged as error:
                unreadable.append(Rejected(str(name), str(error)))
            except FileNotFoundError:
                continue
        self._known = {record.place: record for record in records}  # not those that were pruned
        return records, tuple(unreadable)

    def _record(self, name: CheckpointName) -> Record:
        if name not in self._known:
            self._known[name] = load_record(self._store, name)
        return self._known[name]


def _highest_first(found: Survey) -> list[tuple[int, str]]:
    keyed = [(foreign_epoch(key) or 0, key) for key in found.foreign]
    return sorted(keyed, key=lambda pair: (-pair[0], pair[1]))
