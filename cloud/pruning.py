"""Which checkpoints stay when an attempt has committed newer ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloud.names import CheckpointName, writing_attempt
from cloud.records import Record
from cloud.survey import Survey

MIN_KEPT = 2

Score = Callable[[Record], float | None]


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What a user wants kept beside the newest two of any kind, which always are.

    `last`: that many of the newest whole epochs; `best`: that many with the highest `score` (None or NaN: never);
    `every`: each epoch that it divides, 0 for none.
    """

    last: int
    best: int
    every: int
    score: Score

    def of(self, records: Sequence[Record]) -> list[Record]:
        """Those of `records`, newest first, that stay.

        A checkpoint in the middle of an epoch stays only while it is one of the newest two: it is for resuming.
        """
        line = continued(records)
        whole = [record for record in line if record.whole_epoch]
        kept = [*records[:MIN_KEPT], *whole[: self.last], *self._best(whole)]
        kept += [record for record in whole if self.every and record.epoch % self.every == 0]
        names = {record.name for record in kept}
        return [record for record in records if record.name in names]

    def _best(self, whole: list[Record]) -> list[Record]:
        scored = [(score, record) for record in whole if (score := self.score(record)) is not None]
        # Sorting is stable: of equal scores the newer one stays.
        ranked = sorted((pair for pair in scored if not math.isnan(pair[0])), key=lambda pair: -pair[0])
        return [record for _, record in ranked[: self.best]]


def continued(records: Sequence[Record]) -> list[Record]:
    """`records`, newest first, without those that a later attempt did not continue from because it went further back.

    Each epoch is left at most once.
    """
    line: list[Record] = []
    for record in records:
        if not line or record.place.order[1:] < line[-1].place.order[1:]:
            line.append(record)
    return line


def leftovers(found: Survey, attempt: int) -> list[CheckpointName]:
    """Objects that were never committed, of attempts up to `attempt`, which must not be uploading one."""
    return [name for name in found.uncommitted() if name.attempt <= attempt]


def unneeded(found: Survey, attempt: int, kept: Sequence[Record]) -> list[str]:
    """Ledger files, and files of frozen tensors, of attempts below `attempt` that no kept record names."""
    needed = {file.key for record in kept for file in (*record.ledgers, *record.parts)}
    keys = [*found.ledgers, *found.frozen]
    return [key for key in keys if (writing_attempt(key) or 0) < attempt and key not in needed]
