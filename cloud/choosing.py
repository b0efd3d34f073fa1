"""Which checkpoint to continue from: the newest that is whole, verified byte for byte."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud.errors import Damaged
from cloud.fetched import Fetched
from cloud.names import CheckpointName
from cloud.records import FileDigest, Record, Rejected
from cloud.store import Store
from cloud.survey import Survey, passed_over, survey
from cloud.verifying import load_record, read_verified, size_difference, whole_file

MAX_REJECTED = 100

File = Path | Fetched


@dataclass(frozen=True)
class Chosen:
    """A verified checkpoint. `file` is where it lies in a local store, else in memory, for one reading.

    `frozen` is that of its frozen tensors, where it has some. `is_copy`: both are copies that the reader removes.
    `lost` are those of its ledger files that are not whole, with the reason: what they said must be found out anew.
    """

    record: Record
    file: File
    rejected: tuple[Rejected, ...]
    lost: Mapping[FileDigest, str]
    frozen: File | None = None
    is_copy: bool = False

    def close(self) -> None:
        """Give up what is in memory, or a copy."""
        for file in (self.file, self.frozen):
            if isinstance(file, Fetched):
                file.close()
            elif file is not None and self.is_copy:
                file.unlink(missing_ok=True)


class Chooser:
    """One choice. Only what stays wrong is a reason to pass over a checkpoint: an error of the store is raised.

    Afterwards `bad` says why the records newer than the chosen one cannot be used, `rejected` (at most 100) that and
    why other files are none, `ledgers` holds the bytes of the ledger files that were verified, and `lost` says why
    others are not whole. A checkpoint of which a file is in `given_up`, for the reason there, is passed over.
    """

    def __init__(self, store: Store, check: Callable[[], None], given_up: Mapping[FileDigest, str]) -> None:
        self.bad: dict[CheckpointName, str] = {}
        self.rejected: tuple[Rejected, ...] = ()
        self.ledgers: dict[FileDigest, bytes] = {}
        self.lost: dict[FileDigest, str] = {}
        self._given_up = given_up
        self._store = store
        self._check = check

    def choose(self) -> Chosen | None:
        """The newest whole checkpoint; None when the folder has no record. Damaged when it has and none is whole.

        Where something is missing the folder is listed once more before that counts: it may just have been pruned.
        """
        found = survey(self._store)
        try:
            taken = self._newest(found, holes_count=False)
        except FileNotFoundError:
            found = survey(self._store)
            taken = self._newest(found, holes_count=True)
        self.bad = {name: self.bad[name] for name in found.newest_first() if name in self.bad}
        self.rejected = self._all_rejected(found, None if taken is None else taken[0].place)
        if taken is None and not self.bad and found.metrics:
            raise Damaged(
                f"no record of a checkpoint is left in {self._store.url}, though some were committed "
                f"({found.metrics[0]} tells of them): put them back, or train from scratch with --start_over"
            )
        if taken is None and self.bad:
            raise Damaged(
                f"none of the {len(self.bad)} checkpoints in {self._store.url} can be used: "
                f"{next(iter(self.bad.values()))}; --start_over trains from scratch"
            )
        if taken is None:
            return None
        record, (file, *frozen) = taken
        lost = {ledger: self.lost[ledger] for ledger in record.ledgers if ledger in self.lost}
        return Chosen(record, file, self.rejected, lost, next(iter(frozen), None))

    def _all_rejected(self, found: Survey, newest: CheckpointName | None) -> tuple[Rejected, ...]:
        bad = [Rejected(str(name), reason) for name, reason in self.bad.items()]
        return tuple([*bad, *passed_over(found, newest)][:MAX_REJECTED])

    def _newest(self, found: Survey, *, holes_count: bool) -> tuple[Record, list[File]] | None:
        for name in found.newest_first():
            self._check()
            if name in self.bad:
                continue
            try:
                return self._verified(name, found, holes_count=holes_count)
            except Damaged as error:
                self.bad[name] = str(error)
            except FileNotFoundError as error:
                if not holes_count:
                    raise
                self.bad[name] = str(error)
        return None

    def _verified(self, name: CheckpointName, found: Survey, *, holes_count: bool) -> tuple[Record, list[File]]:
        record = load_record(self._store, name)
        for file in record.parts:
            _check_size(file, found)
        for file in (*record.parts, *record.ledgers):
            if file in self._given_up:
                raise Damaged(self._given_up[file])
        for file in record.ledgers:
            self._check()
            if file not in self.ledgers:
                self._read_ledger(file, found, holes_count=holes_count)
        return record, [whole_file(self._store, file, self._check) for file in record.parts]

    def _read_ledger(self, file: FileDigest, found: Survey, *, holes_count: bool) -> None:
        """Keep a whole one; one that is not is no reason to go back: the data may tell what it said."""
        try:
            _check_size(file, found)
            self.ledgers[file] = read_verified(self._store, file)
        except Damaged as error:
            self.lost[file] = str(error)
        except FileNotFoundError as error:
            if not holes_count:
                raise
            self.lost[file] = str(error)


def _check_size(file: FileDigest, found: Survey) -> None:
    """What the listing shows already: the cheap half of verifying."""
    size = found.size(file.key)
    if size is None:
        raise FileNotFoundError(f"{file.key}: no object")
    if size != file.size:
        raise Damaged(f"{file.key}: {size_difference(size, file.size)}")
