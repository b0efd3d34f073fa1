"""One listing of an output folder, sorted into what its keys say they are."""

from dataclasses import dataclass, field

from cloud.names import (
    OBJECT_SUFFIX,
    OWN_FOLDERS,
    CheckpointName,
    foreign_epoch,
    frozen_digest,
    ledger_attempt,
    writing_attempt,
)
from cloud.records import Rejected
from cloud.store import Entry, Store

MAX_STRANGERS = 100

_TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")


@dataclass(frozen=True)
class Survey:
    """What a folder held. `foreign` are somebody's own checkpoints; `strangers` only look like one.

    `metrics` are written after the record of a whole epoch: they tell that there was one.
    """

    records: dict[CheckpointName, Entry] = field(default_factory=dict)
    objects: dict[CheckpointName, Entry] = field(default_factory=dict)
    ledgers: dict[str, Entry] = field(default_factory=dict)
    frozen: dict[str, Entry] = field(default_factory=dict)
    foreign: dict[str, Entry] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)

    def newest_first(self) -> list[CheckpointName]:
        """The names of all records."""
        return sorted(self.records, key=lambda name: name.order, reverse=True)

    def size(self, key: str) -> int | None:
        """The size of an object, ledger file or file of frozen tensors; None when there is none."""
        name = CheckpointName.parse(key.removesuffix(OBJECT_SUFFIX))
        entry = (self.ledgers | self.frozen).get(key) if name is None else self.objects.get(name)
        return None if entry is None else entry.size

    def uncommitted(self) -> list[CheckpointName]:
        """Objects without a record, newest first."""
        return sorted(self.objects.keys() - self.records.keys(), key=lambda name: name.order, reverse=True)

    def add(self, entry: Entry) -> None:
        """Take one entry of the listing."""
        name = CheckpointName.parse(entry.key.rpartition(".")[0])
        if name is not None and entry.key == name.record_key:
            self.records[name] = entry
        elif name is not None and entry.key == name.object_key:
            self.objects[name] = entry
        elif ledger_attempt(entry.key) is not None:
            self.ledgers[entry.key] = entry
        elif frozen_digest(entry.key) is not None:
            self.frozen[entry.key] = entry
        elif entry.key.startswith("metrics/") and writing_attempt(entry.key) is not None:
            self.metrics.append(entry.key)
        elif foreign_epoch(entry.key) is not None:
            self.foreign[entry.key] = entry
        elif _looks_like_one(entry.key) and len(self.strangers) < MAX_STRANGERS:
            self.strangers.append(entry.key)


def survey(store: Store) -> Survey:
    """List the folder once."""
    found = Survey()
    for entry in store.list():
        found.add(entry)
    return found


def passed_over(found: Survey, newest: CheckpointName | None) -> list[Rejected]:
    """What somebody might have taken for a checkpoint newer than `newest`, and why it is none."""
    rejected = [
        Rejected(str(name), "no record: never committed")
        for name in found.uncommitted()
        if newest is None or name.order > newest.order
    ]
    if found.records:
        reason = "not written by this job: it counts only in a folder without a record"
        rejected += [Rejected(key, reason) for key in found.foreign]
    return rejected + [Rejected(key, _reason(key)) for key in found.strangers]


def _looks_like_one(key: str) -> bool:
    last = key.rpartition("/")[2]
    if key.startswith(OWN_FOLDERS) or last.startswith((".", "_")):
        return False
    return "ckpt" in last or last.endswith(_TORCH_SUFFIXES) or ".sagemaker-upload" in last


def _reason(key: str) -> str:
    if key.endswith(".sagemaker-uploading"):
        return "a platform's unfinished upload"
    if key.endswith(".sagemaker-uploaded"):
        return "a platform's note on an upload"
    return "not a checkpoint's name: ckpt_EPOCH-aATTEMPT.pth or ckpt_EPOCH_STEP-aATTEMPT.pth"
