"""Writing an output folder: committing checkpoints and pruning old ones, only while the claim is held."""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict, Unpack

from cloud.claim import Claim
from cloud.errors import ClaimLost, CloudError, Damaged, StoreError, Unreachable
from cloud.folder import OutputFolder
from cloud.history import History, history
from cloud.names import (
    CheckpointName,
    attempt_key,
    frozen_digest,
    frozen_key,
    ledger_key,
    metrics_key,
    writing_attempt,
)
from cloud.pruning import MIN_KEPT, Keeping, leftovers, unneeded
from cloud.records import AttemptFile, FileDigest, Record
from cloud.sealed import load, seal, seal_lines
from cloud.store import Store, Writer
from cloud.survey import Survey, survey
from cloud.transfer import Digester, upload
from cloud.verifying import file_digest

Produce = Callable[[Writer], None]


class RecordFields(TypedDict):
    """What the trainer says of a checkpoint beside its epoch and step; see `Record`."""

    global_step: int
    round: int
    ledgers: tuple[FileDigest, ...]
    frozen: NotRequired[FileDigest | None]
    metrics: dict[str, Any]
    settings: dict[str, Any]
    net_sha256: NotRequired[str | None]
    learning_rate: NotRequired[float | None]


class HeldFolder(OutputFolder):
    """An output folder that `claim` holds. Methods are for one thread at a time.

    ClaimLost comes out of all that decides when a later attempt took over; an error of the store as it is, and then
    the same call may be made again.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        parent: Record | None = None,
        ledgers: Mapping[FileDigest, bytes] = MappingProxyType({}),
    ) -> None:
        """`parent` is the record of the checkpoint that was restored, and later of the one committed last.

        `ledgers`: files of the folder that were read already.
        """
        super().__init__(store)
        self._ledgers.update(ledgers)
        self._frozen = None if parent is None else parent.frozen
        self.num_committed = 0
        self.claim = claim
        self.parent = parent
        self._uploaded: dict[CheckpointName, Record] = {}
        self._tried: set[CheckpointName] = set()
        self._has_discarded = claim.number == 1  # no attempt before it left anything

    def history(self) -> History:
        """How long the attempts before this one worked, and how many of them were interrupted."""
        return history(self._store, self.claim.number)

    def publish(self, epoch: int, step: int | None, produce: Produce, **fields: Unpack[RecordFields]) -> Record:
        """Commit a checkpoint after `epoch` complete epochs: upload what `produce` writes, then create its record.

        `step` is None for a whole epoch, else the global step. Called again after an error it goes on where it was,
        and what is committed already is not written again.
        """
        name = CheckpointName(self.claim.number, epoch, step)
        if name in self._known:
            return self._known[name]
        # An object that was uploaded is not written again: its record may be there although no answer came.
        if name not in self._uploaded or not _is_there(self._store, self._uploaded[name].object):
            self.claim.check()
            self._uploaded[name] = self._upload(self._store, name, produce, fields)
        record = self._uploaded[name]
        self._check_before_commit(name)
        self._tried.add(name)
        self._create(name.record_key, seal(record))
        del self._uploaded[name]
        self._known[name] = record
        self.parent = record
        self.num_committed += 1
        return record

    def keep_frozen(self, sha256: str, produce: Produce, aside: Store | None = None) -> FileDigest:
        """The file of tensors whose content has that digest, which `produce` writes where it is not there already.

        Called before `publish` is told of it: what a record names is there. With `aside` in that store.
        """
        store, known = aside or self._store, self._frozen
        if known is not None and frozen_digest(known.key) == sha256[:32] and _is_there(store, known):
            return known
        if aside is None:  # which is there for when this folder's store does not answer
            self.claim.check()
        key = frozen_key(sha256, self.claim.number)
        file = file_digest(key, upload(store, key, produce, pauses_seconds=()))  # whoever publishes tries again
        if aside is None:
            self._frozen = file
        return file

    def save_aside(
        self, aside: Store, epoch: int, step: int | None, produce: Produce, **fields: Unpack[RecordFields]
    ) -> Record:
        """Write what this folder's store does not take into another one, which then is an output folder by itself.

        Only this checkpoint stays there. Ledger files that cannot be read now are left out.
        """
        name = CheckpointName(self.claim.number, epoch, step)
        record = self._upload(aside, name, produce, fields)
        for file in record.ledgers:
            with contextlib.suppress(CloudError, FileNotFoundError):
                aside.put(file.key, self._ledger_bytes(file))
        aside.put(attempt_key(self.claim.number), seal(self.claim.file))
        aside.put(name.record_key, seal(record))
        found = survey(aside)
        for other in found.records.keys() | found.objects.keys():
            if other.order < name.order:
                for key in _keys(other):
                    aside.delete(key)
        return record

    def put_back_ledger(self, file: FileDigest, data: bytes) -> None:
        """Write a ledger file that a checkpoint names, if it is no longer there."""
        if not _is_there(self._store, file):
            self._create(file.key, data)
        self._ledgers[file] = data

    def knows(self, other: Store, attempt: int) -> bool:
        """Whether an attempt whose claim file lies in another store was one of this folder."""
        return self.claim.knows(load(other, attempt_key(attempt), AttemptFile))

    def write_ledger(self, round: int, lines: Iterable[Mapping[str, Any]]) -> FileDigest:
        """Write the ledger of a round, before its first step; once per round and attempt."""
        key, data = ledger_key(round, self.claim.number), seal_lines(lines)
        self._create(key, data)
        digester = Digester(chunked=True)
        digester.update(data)
        file = file_digest(key, digester)
        self._ledgers[file] = data
        return file

    def write_metrics(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write all lines of this attempt's metrics anew."""
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        self._store.put(metrics_key(self.claim.number), text.encode())

    def write_view(self, key: str, content: bytes | Produce) -> None:
        """Write something that the job never reads: a file in `model/`, or `report.html`."""
        if key != "report.html" and not key.startswith("model/"):
            raise ValueError(f"{key} is no view")
        self.claim.check()
        if isinstance(content, bytes):
            self._store.put(key, content)
        else:
            upload(self._store, key, content)

    def prune(self, keeping: Keeping) -> tuple[str, ...]:
        """Remove what is not to be kept, leftovers of killed attempts, unfinished ones too; returns the keys.

        Nothing before this attempt committed two checkpoints, and nothing while the newest two are not both there.
        """
        found = survey(self._store)
        records, unreadable = self._readable(found)
        if self.num_committed < MIN_KEPT or not self._are_safe(records[:MIN_KEPT], found):
            return ()
        kept = keeping.of(records)
        keys = [key for record in reversed(records) if record not in kept for key in _keys(record.place)]
        self._uploaded.clear()  # of this attempt, never committed: they are leftovers as well
        keys += [name.object_key for name in leftovers(found, self.claim.number)]
        # What a record that cannot be read needs is not known: then all that it may name stays.
        if not unreadable:
            keys += unneeded(found, self.claim.number, kept)
        for key in keys:
            self.claim.check()
            self._store.delete(key)
        if not self._has_discarded:
            self.claim.check()
            self._store.discard_unfinished(self._is_earlier)
            self._has_discarded = True
        return tuple(keys)

    def _is_earlier(self, key: str) -> bool:
        """Whether an earlier attempt wrote it: what is unfinished of that stays so."""
        attempt = writing_attempt(key)
        return attempt is not None and attempt < self.claim.number

    def _upload(self, store: Store, name: CheckpointName, produce: Produce, fields: RecordFields) -> Record:
        digester = upload(store, name.object_key, produce, pauses_seconds=())  # whoever publishes tries again
        return Record(
            name=str(name),
            attempt=name.attempt,
            epoch=name.epoch,
            whole_epoch=name.step is None,
            object=file_digest(name.object_key, digester),
            parent=None if self.parent is None else self.parent.name,
            **fields,
        )

    def _check_before_commit(self, name: CheckpointName) -> None:
        try:
            self.claim.check()
        except ClaimLost:
            # The later attempt removes it too, as a leftover. Once its record was tried it may be committed, unknown
            # to us, and what the later attempt continues from.
            if name not in self._tried:
                with contextlib.suppress(StoreError):
                    self._store.delete(name.object_key)
            raise

    def _create(self, key: str, data: bytes) -> None:
        """Create a file of this attempt once; what is there already with the same bytes is this very file."""
        try:
            self._store.create(key, data)
        except (FileExistsError, StoreError) as error:
            there = self._there(key)
            if there not in (None, data):
                there = self._there(key)  # the way here can damage bytes too
            if there == data:
                return
            if not isinstance(error, FileExistsError):
                raise
            where = f"{key} in {self._store.url}"
            if there is None:
                raise Unreachable(f"{where}: said to be there, and is not") from error
            raise Damaged(f"{where}: there with other content than this attempt wrote") from error

    def _there(self, key: str) -> bytes | None:
        try:
            return self._store.read(key)
        except FileNotFoundError:
            return None

    def _are_safe(self, newest: list[Record], found: Survey) -> bool:
        """Whether those two are of this attempt, and their objects there with the right size."""
        return len(newest) == MIN_KEPT and all(
            record.attempt == self.claim.number and found.size(record.object.key) == record.object.size
            for record in newest
        )


def _is_there(store: Store, file: FileDigest) -> bool:
    try:
        return store.stat(file.key).size == file.size
    except FileNotFoundError:
        return False


def _keys(name: CheckpointName) -> tuple[str, str]:
    """In the order of removal: without its record an object is a leftover, never the other way round."""
    return name.record_key, name.object_key
