"""The keys of an output folder: how they are written, parsed and sorted. Only ASCII digits, no leading zeros."""

import re
from dataclasses import dataclass

OBJECT_SUFFIX = ".pth"
RECORD_SUFFIX = ".json"
ATTEMPTS = "attempts/"
OWN_FOLDERS = (ATTEMPTS, "ledger/", "frozen/", "metrics/", "model/")

# At most 15 digits, so that every number fits in 64 bits and in a float.
_NUMBER = r"(0|[1-9][0-9]{0,14})"
_CHECKPOINT = re.compile(rf"ckpt_{_NUMBER}(?:_{_NUMBER})?-a{_NUMBER}")
_FOREIGN = re.compile(rf"ckpt_(?:best_)?{_NUMBER}\.pth")
_ATTEMPT = re.compile(r"attempts/([0-9]{6,15})(?:-[0-9a-f]+)?\.json")
_PER_ATTEMPT = re.compile(r"(?:attempts|metrics)/([0-9]{6,15})\.(?:life|jsonl)")
_FROZEN = re.compile(rf"frozen/([0-9a-f]{{32}})-a{_NUMBER}\.pth")
_LEDGER = re.compile(rf"ledger/round-[0-9]{{4,15}}-a{_NUMBER}\.jsonl\.zst")


@dataclass(frozen=True)
class CheckpointName:
    """`ckpt_20-a7`: after 20 complete epochs, by attempt 7; `ckpt_20_4810-a7`: later, at global step 4810."""

    attempt: int
    epoch: int
    step: int | None = None

    @classmethod
    def parse(cls, text: str) -> "CheckpointName | None":
        """The name that `text` is, or None when it is none of ours."""
        match = _CHECKPOINT.fullmatch(text)
        if match is None:
            return None
        epoch, step, attempt = match.groups()
        return cls(int(attempt), int(epoch), None if step is None else int(step))

    @property
    def order(self) -> tuple[int, int, int]:
        """(attempt, epoch, step): the newest checkpoint has the highest."""
        return self.attempt, self.epoch, -1 if self.step is None else self.step

    @property
    def object_key(self) -> str:
        """Where the state is."""
        return f"{self}{OBJECT_SUFFIX}"

    @property
    def record_key(self) -> str:
        """Where the record is, whose presence is the commit."""
        return f"{self}{RECORD_SUFFIX}"

    def __str__(self) -> str:
        step = "" if self.step is None else f"_{self.step}"
        return f"ckpt_{self.epoch}{step}-a{self.attempt}"


def foreign_epoch(key: str) -> int | None:
    """The epoch of somebody's own `ckpt_12.pth` or `ckpt_best_12.pth`; None for every other key."""
    match = _FOREIGN.fullmatch(key)
    return None if match is None else int(match[1])


def ledger_key(round: int, attempt: int) -> str:
    """Where an attempt writes the ledger of a round."""
    return f"ledger/round-{round:04d}-a{attempt}.jsonl.zst"


def ledger_attempt(key: str) -> int | None:
    """The attempt that wrote a ledger file; None for every other key."""
    match = _LEDGER.fullmatch(key)
    return None if match is None else int(match[1])


def frozen_key(sha256: str, attempt: int) -> str:
    """Where an attempt writes tensors that training never changes; its name begins with the digest of their content."""
    return f"frozen/{sha256[:32]}-a{attempt}{OBJECT_SUFFIX}"


def frozen_digest(key: str) -> str | None:
    """What is left of the digest in the name of a file of frozen tensors; None for every other key."""
    match = _FROZEN.fullmatch(key)
    return None if match is None else match[1]


def attempt_key(attempt: int, nonce: str = "") -> str:
    """Where an attempt's claim is; with its nonce in the name where a store has no create-only puts."""
    return f"{ATTEMPTS}{attempt:06d}{f'-{nonce}' if nonce else ''}.json"


def life_key(attempt: int) -> str:
    """Where an attempt's sign of life is."""
    return f"{ATTEMPTS}{attempt:06d}.life"


def metrics_key(attempt: int) -> str:
    """Where an attempt's metrics are, one line per epoch."""
    return f"metrics/{attempt:06d}.jsonl"


def claimed_attempt(key: str) -> int | None:
    """The number that a claim file is for; None for every other key."""
    match = _ATTEMPT.fullmatch(key)
    return int(match[1]) if match is not None and f"{int(match[1]):06d}" == match[1] else None


def writing_attempt(key: str) -> int | None:
    """The attempt whose number any other key of ours carries; None for views and what is not ours."""
    for suffix in (OBJECT_SUFFIX, RECORD_SUFFIX):
        name = CheckpointName.parse(key.removesuffix(suffix)) if key.endswith(suffix) else None
        if name is not None:
            return name.attempt
    match = _FROZEN.fullmatch(key)
    if match is not None:
        return int(match[2])
    match = _PER_ATTEMPT.fullmatch(key)
    return int(match[1]) if match is not None else ledger_attempt(key)
