"""What a round whose ledger is lost is found out by: all that its shards do not tell, small enough for a checkpoint."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainer.errors import CheckpointError, DataError
from trainer.heading import EXTENT
from trainer.ledger import COUNTS, Ledger, Round, Shard
from trainer.plan import next_round, settings_of
from trainer.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Of a round: what was decided when it started, and which keys it names, as int64 fingerprints of shape (n,).

    `sha256` is the digest of what the ledger says, without the shards' versions, which a copy has others of, and
    without the words for bad examples.
    """

    number: int
    settings: Mapping[str, Any]
    window_bytes: int
    starts_from: str
    shards: Tensor
    removed: Tensor
    sha256: str

    @classmethod
    def of(cls, round: Round) -> "Outline":
        """The outline of a round that is known."""
        return cls(
            number=round.number,
            settings=dict(round.settings),
            window_bytes=round.window_bytes,
            starts_from=round.starts_from,
            shards=_fingerprints(shard.key for shard in round.shards),
            removed=_fingerprints(round.removed),
            sha256=_digest(round),
        )

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Outline":
        """The inverse of `vars`; CheckpointError when it is none."""
        try:
            return cls(**plain)
        except TypeError as error:
            raise CheckpointError(f"rounds: {error}") from error

    def members(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that are shards of the round."""
        return _among(keys, self.shards)

    def rebuilt(self, ledger: Ledger, shards: Sequence[Shard], settings: TrainSettings) -> Round:
        """The round, of what a census found in its shards today; DataError unless its digest is as it was."""
        held = settings_of(self.settings, settings)
        removed = _among((shard.key for shard in ledger.known()), self.removed)
        round = next_round(ledger, shards, removed, held, self.window_bytes)
        if round is not None:
            round = replace(round, settings=self.settings, starts_from=self.starts_from)
        if round is None or _digest(round) != self.sha256:
            raise DataError("its shards were edited since, or other settings or another task read them now")
        return round


def _fingerprint(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)


def _fingerprints(keys: Iterable[str]) -> Tensor:
    return torch.tensor([_fingerprint(key) for key in keys], dtype=torch.int64)


def _among(keys: Iterable[str], fingerprints: Tensor) -> list[str]:
    known = frozenset(fingerprints.tolist())
    return [key for key in keys if _fingerprint(key) in known]


def _digest(round: Round) -> str:
    digest = hashlib.sha256()
    for line in round.to_lines():
        digest.update(json.dumps(_essential(line), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _essential(line: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in line.items() if name not in ("version", *EXTENT, *COUNTS)}
    if "bad" in kept:
        kept["bad"] = [index for index, _ in kept["bad"]]
    if "shard" in kept:
        kept["shard"] = _essential(kept["shard"])
    return kept
