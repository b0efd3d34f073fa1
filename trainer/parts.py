"""What a round consists of: the shards it brings, and the old ones that examples are drawn from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.census import usable_indices
from trainer.errors import DataError
from trainer.ledger import Replay, Round, Shard
from trainer.opened import OpenShards
from trainer.task import Task


@dataclass(frozen=True, slots=True)
class Part:
    """Examples that one shard gives to a round: those it brings, or old ones drawn from it."""

    shard: Shard
    replay: Replay | None
    num_examples: int

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole shard, so that its examples are those of the sequence."""
        shard = self.shard
        return self.replay is None and shard.new is None and not shard.bad and not shard.held_out


def parts_of(round: Round) -> list[Part]:
    """What a round consists of, in the order of the ledger: its own shards, then the old examples drawn."""
    own = [Part(shard, None, shard.num_new) for shard in round.shards if shard.split == "train" and shard.num_new]
    old = [Part(replay.shard, replay, replay.num_examples) for replay in round.replay if replay.num_examples]
    return sorted(own, key=_sort_key) + sorted(old, key=_sort_key)


def _sort_key(part: Part) -> bytes:
    return part.shard.sort_key


def new_examples(
    round: Round, opened: OpenShards, check: Callable[[], None], *, with_resources: bool = False
) -> Iterator[Any]:
    """What the round brings, example by example, and before those of a shard its resources. `check` may end it."""
    own = [shard for shard in round.shards if shard.split == "train" and (shard.num_new or with_resources)]
    opened.prefetch(own)
    for shard in own:
        with opened.open(shard) as examples:
            yield from getattr(examples, "resources", ()) if with_resources else ()
            for index in indices_of(Part(shard, None, shard.num_new), opened.task, examples).tolist():
                check()
                yield examples[index]


def indices_of(part: Part, task: Task, examples: Sequence[Any]) -> np.ndarray:
    """Where the part's examples are in the shard's sequence, int64 of shape (part.num_examples,)."""
    if len(examples) != part.shard.num_read:
        raise DataError(f"{part.shard.key}: {len(examples)} examples, the census found {part.shard.num_read}")
    usable = usable_indices(part.shard)
    if part.replay is None:
        return usable if part.shard.new is None else np.array(part.shard.new, dtype=np.int64)
    old = np.setdiff1d(usable, np.array(part.shard.new or (), dtype=np.int64), assume_unique=True)
    if part.replay.picks is None:
        return old
    return _picked(part.replay.picks, [task.label(examples[index]) or "" for index in old.tolist()], old)


def _picked(picks: Mapping[str, Sequence[int]], labels: Sequence[str], indices: np.ndarray) -> np.ndarray:
    """The picked ordinals of each label as indices, sorted."""
    of_label: dict[str, list[int]] = {}
    for label, index in zip(labels, indices.tolist(), strict=True):
        of_label.setdefault(label, []).append(index)
    chosen = [of_label[label][ordinal] for label, ordinals in picks.items() for ordinal in ordinals]
    return np.array(sorted(chosen), dtype=np.int64)
