"""What the sealed files of an output folder say: the record of a checkpoint, an attempt's claim and outcome."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from cloud.names import CheckpointName, frozen_digest, ledger_attempt

MAX_LISTED_KEYS = 1000

Number = Field(ge=0, lt=10**15)


class _Sealed(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class FileDigest(_Sealed):
    """One file as it was written: SHA-256 in hex for each 64 MiB of it."""

    key: str
    size: int = Field(ge=1, lt=2**60)
    chunks: tuple[str, ...]


class Record(_Sealed):
    """What commits a checkpoint. `epoch` counts complete epochs; `parent` names the checkpoint it was trained from.

    `net_sha256` is the digest of what is trained, and `learning_rate` that of the last step; None: not told. `frozen`
    is the file of the tensors that training never changes, where the task leaves them out of the object.
    """

    format: Literal[1] = 1
    name: str
    attempt: int = Number
    epoch: int = Number
    global_step: int = Number
    round: int = Number
    whole_epoch: bool
    object: FileDigest
    ledgers: tuple[FileDigest, ...]
    frozen: FileDigest | None = None
    parent: str | None
    metrics: dict[str, JsonValue]
    settings: dict[str, JsonValue]
    net_sha256: str | None = None
    learning_rate: float | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """The name says attempt, epoch and step too, and no key may lead anywhere else."""
        step = None if self.whole_epoch else self.global_step
        name = CheckpointName(self.attempt, self.epoch, step)
        if self.name != str(name) or self.object.key != name.object_key:
            raise ValueError("name, numbers and object do not agree")
        if any(ledger_attempt(file.key) is None for file in self.ledgers):
            raise ValueError("a ledger's key is none of this folder's")
        if self.frozen is not None and frozen_digest(self.frozen.key) is None:
            raise ValueError("the key of the frozen tensors is none of this folder's")
        return self

    @property
    def parts(self) -> tuple[FileDigest, ...]:
        """The files that are read to continue from it, beside its ledger files."""
        return (self.object,) if self.frozen is None else (self.object, self.frozen)

    @property
    def place(self) -> CheckpointName:
        """The name, parsed."""
        return CheckpointName(self.attempt, self.epoch, None if self.whole_epoch else self.global_step)

    def unchanged_since(self, earlier: "Record") -> str:
        """An alarm in words when steps were taken and the network is that of `earlier` to the bit, else ""."""
        num_steps = self.global_step - earlier.global_step
        if num_steps <= 0 or not self.learning_rate or self.net_sha256 is None or self.net_sha256 != earlier.net_sha256:
            return ""
        return (
            f"the network is that of {earlier.name}, to the bit, although {num_steps} steps were taken at learning "
            f"rate {self.learning_rate:g}: a stale copy was saved, or nothing is trained"
        )


@dataclass(frozen=True)
class Rejected:
    """A file that was not taken as the newest checkpoint, and why."""

    name: str
    reason: str


class Host(_Sealed):
    """One process on one machine. None where the system does not tell: then it is never taken for the same."""

    boot_id: str | None
    pid_namespace: str | None
    pid: int = Field(ge=1, lt=2**31)
    start_ticks: int | None
    name: str


class TookOver(_Sealed):
    """The attempt before, when it left no outcome, and why it was taken for dead."""

    attempt: int
    reason: str


class ClaimFile(_Sealed):
    """`attempts/000007.json` as it is created."""

    attempt: int = Field(ge=1, lt=10**15)
    nonce: str
    host: Host
    took_over: TookOver | None
    beat_seconds: float = Field(gt=0, le=3600)


class Outcome(_Sealed):
    """What an attempt did; every field has a default, so that one that failed early can say so.

    The lists of shards hold at most the first 1,000 keys; `num_appended_shards` and its like count them all.
    `bytes_left_out`: what its checkpoints did not hold because it is frozen. `seconds` is the time spent per phase.
    """

    outcome: Literal["done", "nothing_new", "stopped", "failed"] | None = None
    exit_code: int | None = None
    error: str | None = None
    resumed_from: str | None = None
    rejected: tuple[Rejected, ...] = ()
    appended_shards: tuple[str, ...] = ()
    changed_shards: tuple[str, ...] = ()
    removed_shards: tuple[str, ...] = ()
    num_appended_shards: int = 0
    num_changed_shards: int = 0
    num_removed_shards: int = 0
    new_examples: int = 0
    first_global_step: int | None = None
    last_global_step: int | None = None
    epoch: int | None = None
    round: int | None = None
    num_examples_trained: int = 0
    promoted: bool | None = None
    bytes_left_out: int = 0
    seconds: dict[str, float] = Field(default_factory=dict)

    def bounded(self) -> "Outcome":
        """The same with counted and shortened lists: a million new shards must not make the file unreadable."""
        counts = {f"num_{kind}": len(getattr(self, kind)) for kind in _SHARD_LISTS}
        lists = {kind: getattr(self, kind)[:MAX_LISTED_KEYS] for kind in _SHARD_LISTS}
        return self.model_copy(update=counts | lists)


_SHARD_LISTS = ("appended_shards", "changed_shards", "removed_shards")


class AttemptFile(Outcome, ClaimFile):
    """`attempts/000007.json` at any time: the claim, and at the end what the attempt did."""
