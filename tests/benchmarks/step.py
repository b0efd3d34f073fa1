"""Cost of a step above a bare torch loop over the same batches: a small network (64-128-10, batch 32, AdamW).

python -m tests.benchmarks.step [--pairs N] [--tiny]

Each loop runs beside a bare one in the same process, some steps of each in turn: what else the machine does then hits
both, and the median of the differences is told to a few microseconds. The bare loop beside itself tells how well.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cloud.cache import ShardCache, Wanted
from cloud.open import open_store
from perdure import Task, TaskSettings, Vocabulary
from tests.benchmarks.measured import Figures, measured
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from trainer.census import CensusRules, take_census
from trainer.data import Batch, Loader
from trainer.ledger import Ledger, Shard
from trainer.loop import Training
from trainer.opened import OpenShards
from trainer.plan import Progress, next_round, target
from trainer.settings import TrainSettings
from trainer.state import new_state
from trainer.world import World

NUM_STEPS = 1000
BLOCK_STEPS = 10
SETTINGS = TrainSettings(epochs=1, batch_size=32, schedule="constant", warmup_fraction=0)
CPU = torch.device("cpu")
BARE, PREPARED, FROM_SHARD = "bare loop", "perdure, batches prepared", "perdure, batches from a shard"


class Small(Task):
    """Rows of 64 numbers and a class."""

    settings = TaskSettings()
    suffixes = (".npy",)

    def read(self, path: Path) -> Sequence[Any]:
        return np.load(path)  # type: ignore[no-any-return]

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        rows = torch.from_numpy(np.asarray(examples))
        return rows[:, :64], rows[:, 64].long()

    def loss(self, net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(net(batch[0]), batch[1], reduction="sum")

    def predict(self, net: nn.Module, batch: Any) -> Sequence[Any]:
        return []

    def scores(self, predictions: Sequence[Any], vocabulary: Vocabulary) -> Mapping[str, Any]:
        return {}


class Prepared(Loader):
    """A loader whose batches were made before."""

    prepared: Sequence[Batch] = ()

    def blocks(self, start: int) -> Iterator[list[Batch]]:
        return (list(self.prepared[place : place + 64]) for place in range(0, len(self.prepared), 64))


def tables(options: Options) -> Iterator[Table]:
    """Seconds per step, over the same prepared batches and over batches from a shard."""
    torch.set_num_threads(1)
    num_steps = options.size(4 * NUM_STEPS, 40)
    with tempfile.TemporaryDirectory() as name:
        make = loaders(Path(name), num_steps)
        prepared = list(make(Loader).batches(0))
        yield Table(
            title="one step of a small network (64-128-10, batch 32)",
            cases={
                BARE: lambda: beside_bare(prepared, lambda: bare_steps(prepared)),
                PREPARED: lambda: beside_bare(prepared, lambda: our_steps(with_batches(make(Prepared), prepared))),
                FROM_SHARD: lambda: beside_bare(prepared, lambda: our_steps(make(Loader))),
            },
            ours=PREPARED,
            goals=[Goal(says="at most 10 us above a bare loop", figure="above_bare_seconds", most=10e-6)],
            seconds_unit=("us", 1e6),
        )


def beside_bare(prepared: Sequence[Batch], begin: Callable[[], Iterator[None]]) -> Figures:
    """Seconds of a step of a loop, and how far they are above a bare one's: medians over blocks of steps in turn."""
    loops = (bare_steps(prepared), begin())
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(len(prepared) // BLOCK_STEPS):
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            for _ in islice(loops[which], BLOCK_STEPS):
                pass
            taken[which].append((time.perf_counter() - started) / BLOCK_STEPS)
    bare, other = (np.array(seconds[len(seconds) // 10 :]) for seconds in taken)  # the first ones warm up
    return {"seconds": float(np.median(other)), "above_bare_seconds": float(np.median(other - bare))}


def per_step(num_steps: int, loop: Callable[[], float]) -> Figures:
    """Seconds of one of the steps of a loop that tells its seconds; not the CPU's, which setting up is part of."""
    figures = measured(lambda: {"seconds": loop() / num_steps})
    return {name: figures[name] for name in ("seconds", "peak_bytes")}


def loaders(folder: Path, num_steps: int, task: Task | None = None) -> Callable[[type[Loader]], Loader]:
    """A function that makes loaders over the one shard."""
    rows = np.random.default_rng(0).normal(size=(num_steps * 32, 65)).astype(np.float32)
    rows[:, 64] = np.abs(rows[:, 64] * 3).clip(0, 9)
    (folder / "data").mkdir()
    np.save(folder / "data" / "0.npy", rows)
    store = open_store(str(folder / "data"))
    opened = OpenShards(task or Small(), ShardCache(store, folder / "cache", 2**30), 2**30)
    wanted = Wanted("0.npy", store.stat("0.npy").size, None)
    path, sha256 = ShardCache(store, folder / "cache", 2**30).acquire(wanted)
    shard = Shard(key="0.npy", size=wanted.size, sha256=sha256)
    with opened.read("0.npy", path, sha256) as examples:
        shard = take_census(opened.task, examples, shard, CensusRules(), lambda: None)
    round = next_round(Ledger(), [shard], [], SETTINGS, 2**30)
    assert round is not None
    goal = target(round, SETTINGS, Progress())
    return lambda kind: kind(round, goal, opened, Vocabulary(), 0, World())


def with_batches(loader: Loader, prepared: Sequence[Batch]) -> Loader:
    """The loader, with its batches."""
    assert isinstance(loader, Prepared)
    loader.prepared = prepared
    return loader


def bare(batches: Sequence[Batch]) -> float:
    """Seconds of the loop that one writes by hand."""
    return _seconds(bare_steps(batches))


def bare_steps(batches: Sequence[Batch]) -> Iterator[None]:
    """Its steps, after setting up: the same network, optimizer, clipping and batches."""
    torch.manual_seed(0)
    net = Small().build(Vocabulary())
    parameters = list(net.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=SETTINGS.learning_rate, fused=True)

    def step(batch: Batch) -> None:
        (images, labels), num_examples = batch.micro_batches[0], batch.num_examples
        optimizer.zero_grad()
        loss = cross_entropy(net(images), labels, reduction="sum") / num_examples
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return map(step, batches)


def ours(loader: Loader, settings: TrainSettings = SETTINGS, device: torch.device = CPU) -> float:
    """Seconds of the same with everything that a job does at a step."""
    return _seconds(our_steps(loader, settings, device), device)


def our_steps(loader: Loader, settings: TrainSettings = SETTINGS, device: torch.device = CPU) -> Iterator[None]:
    """Its steps, after setting up."""
    state = new_state(loader.opened.task, Vocabulary(), settings, device)
    state.progress = state.progress.in_round(1)
    training = Training(loader.opened.task, state, loader, settings)
    return (None for _ in training.run(lambda state: {}, lambda: False))


def _seconds(steps: Iterator[None], device: torch.device = CPU) -> float:
    started = time.perf_counter()
    for _ in steps:
        pass
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(tables)
