"""Checking a whole output folder byte for byte, without a claim and without writing; a job may be running in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TypeVar

from cloud.errors import Damaged
from cloud.findings import ALARM, DAMAGED, LEFT_OVER, MISSING, OK, Finding, judged
from cloud.names import CheckpointName
from cloud.records import FileDigest, Record
from cloud.sealed import unseal_lines
from cloud.store import Entry, Store
from cloud.survey import Survey
from cloud.threads import result_of
from cloud.verifying import MAX_LEDGER_BYTES, load_record, twice, verify
from cloud.views import check_views

NUM_THREADS = 4

Key = TypeVar("Key")
Deep = Callable[[Record], None]
"""Reads a checkpoint whose bytes are right; raises Damaged where its content is not."""


@dataclass
class Audit:
    """One check of everything. Afterwards `whole` are the good checkpoints, newest first, and `lost` the bad ledgers.

    A checkpoint whose frozen tensors are not whole is none either.

    `deep` is called for one checkpoint at a time: it may take as much memory as that has.
    """

    store: Store
    check: Callable[[], None]
    deep: Deep | None = None
    records: dict[CheckpointName, Record] = field(default_factory=dict)
    whole: list[Record] = field(default_factory=list)
    lost: set[FileDigest] = field(default_factory=set)
    frozen: dict[FileDigest, Finding] = field(default_factory=dict)
    _reading_frozen: Lock = field(default_factory=Lock)

    def run(self) -> Iterator[Finding]:
        """What is known of every file, checkpoints first and the newest of them first. Errors of the store are raised.

        Several files are digested at once, in memory that their size has no part in. What a running job removes
        meanwhile is left out.
        """
        entries = {entry.key: entry for entry in self.store.list()}
        found = Survey()
        for entry in entries.values():
            found.add(entry)
        with _threads() as pool:
            yield from self._checkpoints(found, pool)
            yield from self._frozen_files(found)
            yield from self._ledgers(found, pool)
            yield from check_views(self.store, found, entries, list(self.records.values()), self.check)

    def _checkpoints(self, found: Survey, pool: ThreadPoolExecutor) -> Iterator[Finding]:
        work = {name: partial(self._checkpoint, name) for name in found.newest_first()}
        for name, finding in self._done(pool, work):
            if finding.state == OK and self.deep is not None:
                finding = judged(finding.key, partial(self._deeper, self.records[name], finding.detail))
            if finding.state == OK:
                self.whole.append(self.records[name])
            yield finding
        yield from self._alarms()
        for name in found.uncommitted():
            yield Finding(name.object_key, LEFT_OVER, "no record: never committed, or an upload under way")

    def _checkpoint(self, name: CheckpointName) -> Finding | None:
        """A record and the bytes of its object; None when they were pruned meanwhile."""
        try:
            record = self.records[name] = load_record(self.store, name)
            frozen = None if record.frozen is None else self._frozen(record.frozen)
            verify(self.store, record.object, self.check)
        except Damaged as error:
            return Finding(str(name), DAMAGED, str(error))
        except FileNotFoundError:
            # A record is removed before its object: one without the other was not pruned.
            return Finding(str(name), MISSING, f"{name.object_key}: no object") if self._has_record(name) else None
        if frozen is not None and frozen.is_bad:
            detail = f"{frozen.key}: {frozen.detail.removeprefix(f'{frozen.key}: ')}"
            return Finding(str(name), frozen.state, detail) if self._has_record(name) else None
        place = f"epoch {record.epoch}, step {record.global_step}, round {record.round}"
        return Finding(str(name), OK, f"{place}: {record.object.size:,} bytes")

    def _frozen(self, file: FileDigest) -> Finding:
        """What is known of a file of frozen tensors, which is read once however many checkpoints name it."""
        with self._reading_frozen:
            if file not in self.frozen:
                self.frozen[file] = judged(file.key, partial(self._read_frozen, file))
            return self.frozen[file]

    def _read_frozen(self, file: FileDigest) -> str:
        try:
            verify(self.store, file, self.check)
        except FileNotFoundError:
            raise FileNotFoundError("no object") from None
        return f"{file.size:,} bytes"

    def _frozen_files(self, found: Survey) -> Iterator[Finding]:
        named = {record.frozen.key for record in self.records.values() if record.frozen is not None}
        yield from (one for one in self.frozen.values() if one.key in named)  # else it was pruned meanwhile
        for key in sorted(found.frozen.keys() - named):
            yield Finding(key, LEFT_OVER, "no checkpoint names it, or none yet")

    def _deeper(self, record: Record, detail: str) -> str:
        assert self.deep is not None
        try:
            self.deep(record)
        except FileNotFoundError:
            return f"{detail}, pruned before it was loaded"
        return f"{detail}, loaded"

    def _alarms(self) -> Iterator[Finding]:
        for record in self.records.values():
            name = CheckpointName.parse(record.parent or "")
            parent = None if name is None else self.records.get(name)
            if parent is not None and (alarm := record.unchanged_since(parent)):
                yield Finding(record.name, ALARM, alarm)

    def _ledgers(self, found: Survey, pool: ThreadPoolExecutor) -> Iterator[Finding]:
        named: dict[FileDigest, list[CheckpointName]] = {}
        for name, record in self.records.items():
            for file in record.ledgers:
                named.setdefault(file, []).append(name)
        work = {file: partial(self._ledger, file, names) for file, names in named.items()}
        for file, finding in self._done(pool, work):
            if finding.is_bad:
                self.lost.add(file)
            yield finding
        for key in sorted(found.ledgers.keys() - {file.key for file in named}):
            finding = judged(key, partial(self._unnamed_ledger, found.ledgers[key]), LEFT_OVER)
            if finding.state != MISSING:  # else it was pruned meanwhile
                yield finding

    def _ledger(self, file: FileDigest, names: Sequence[CheckpointName]) -> Finding | None:
        named_by = ", ".join(map(str, names))
        try:
            verify(self.store, file, self.check)
        except Damaged as error:
            return Finding(file.key, DAMAGED, f"{error}; named by {named_by}")
        except FileNotFoundError:
            there = any(self._has_record(name) for name in names)
            return Finding(file.key, MISSING, f"no object; named by {named_by}") if there else None
        return Finding(file.key, OK, f"{file.size:,} bytes")

    def _unnamed_ledger(self, entry: Entry) -> str:
        """That of a round without a checkpoint yet, or what pruning left."""
        if entry.size > MAX_LEDGER_BYTES:
            raise Damaged(f"{entry.size:,} bytes are more than any ledger has")
        twice(lambda: sum(1 for _ in unseal_lines(self.store.read(entry.key))))
        return "no checkpoint names it, or none yet"

    def _has_record(self, name: CheckpointName) -> bool:
        try:
            self.store.stat(name.record_key)
        except FileNotFoundError:
            self.records.pop(name, None)
            return False
        return True

    def _done(
        self, pool: ThreadPoolExecutor, work: Mapping[Key, Callable[[], Finding | None]]
    ) -> Iterator[tuple[Key, Finding]]:
        """What each piece of work finds, in order, several at a time."""
        futures = {key: pool.submit(one) for key, one in work.items()}
        for key, future in futures.items():
            finding = result_of(future, self.check)
            if finding is not None:
                yield key, finding


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(NUM_THREADS, "audit")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # `with` would wait for the digests under way: a stop is quick
