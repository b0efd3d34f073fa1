"""From a place among 10^8 examples in 10^4 shards to the first batch: the plan, the order, and the shards it needs.

python -m tests.benchmarks.place [--pairs N] [--tiny]

Every shard is cached; peers that resume by reading through what was seen would take as long as training it took.
"""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from tests.benchmarks.measured import Figures, measured
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from tests.benchmarks.step import Small
from trainer.data import Loader
from trainer.ledger import Ledger, Round, Shard
from trainer.opened import OpenShards
from trainer.plan import Progress, next_round, target
from trainer.settings import TrainSettings
from trainer.vocabulary import Vocabulary
from trainer.world import World

SETTINGS = TrainSettings(epochs=3, batch_size=32)
CACHE_BYTES = 10**10
OURS, BEGINNING = "perdure, at 77 % of epoch 2", "perdure, at the very first example"


class OneFile:
    """Shards that are all the same cached file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def prefetch(self, wanted: object) -> None:
        """They are there."""

    def file_of(self, wanted: Shard) -> AbstractContextManager[tuple[Path, str]]:
        """The file, whichever is asked for."""
        return nullcontext((self._path, wanted.sha256))


class Mapped(Small):
    """Rows that are mapped from their file."""

    def read(self, path: Path) -> np.ndarray:  # type: ignore[override]
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def tables(options: Options) -> Iterator[Table]:
    """Seconds from the round, as its ledger tells it, to the first batch."""
    num_shards, num_each = options.size((10_000, 10_000), (100, 50))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "0.npy"
        np.save(path, np.zeros((num_each, 65), np.float32))
        round = _round(num_shards, num_each, path.stat().st_size)
        num_examples = num_shards * num_each
        place = (num_examples + 77 * num_examples // 100) // 32 * 32
        yield Table(
            title=f"from a place among {num_examples:.0e} examples in {num_shards:,} shards to the first batch",
            cases={OURS: lambda: first_batch(round, path, place), BEGINNING: lambda: first_batch(round, path, 0)},
            ours=OURS,
            goals=[Goal(says="at most 0.1 s", most=0.1)],
            seconds_unit=("ms", 1e3),
        )


def first_batch(round: Round, path: Path, place: int) -> Figures:
    """What a resumed attempt does once its round is known."""

    def work() -> None:
        opened = OpenShards(Mapped(), OneFile(path), 0)
        goal = target(round, SETTINGS, Progress(round=1, example=place))
        batch = next(Loader(round, goal, opened, Vocabulary(), 0, World()).batches(place))
        assert batch.end == place + 32

    return measured(work)


def _round(num_shards: int, num_each: int, size: int) -> Round:
    shards = [
        Shard(key=f"{n:05}.npy", size=size, sha256=f"{n:064x}", num_read=num_each, num_examples=num_each)
        for n in range(num_shards)
    ]
    round = next_round(Ledger(), shards, [], SETTINGS, CACHE_BYTES // 2)
    assert round is not None
    return round


if __name__ == "__main__":
    main(tables)
