"""What the first line of a ledger file says of its round, so that a million shards need not be read for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What decides how long a round lasts: its settings, the labels that it brings, and how many examples it brings and
    takes along.
    """

    number: int
    settings: Mapping[str, Any]
    num_new: int
    num_old: int
    labels: Sequence[str]
    starts_from: str = ""


HEADING = ("settings", "num_new", "num_old", "labels")


class Counted(Protocol):
    """A shard, as far as it is counted here."""

    @property
    def key(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def new(self) -> tuple[int, ...] | None: ...


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Which shards a round has.

    `num_train`: training shards that no earlier round had; `num_untrained`: those to evaluate on, and what is none;
    `last_key`: the highest key of a training shard.
    """

    num_train: int
    num_untrained: int
    last_key: str

    @classmethod
    def of(cls, shards: Iterable[Counted]) -> "Extent":
        """The extent of these shards, which are read once."""
        num_train = num_untrained = 0
        last_key = ""
        for shard in shards:
            num_untrained += shard.split != "train"
            if shard.split == "train":
                num_train += shard.new is None
                last_key = max(last_key, shard.key, key=str.encode)
        return cls(num_train=num_train, num_untrained=num_untrained, last_key=last_key)


EXTENT = tuple(field.name for field in fields(Extent))
