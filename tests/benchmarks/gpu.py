"""On a CUDA device: 10 GB of state saved beside the training, precisions and torch.compile, beside bare loops.

python -m tests.benchmarks.gpu [--pairs N] [--tiny]

Where there is no such device it says so and measures nothing; with --tiny it runs on the CPU, to see that it works.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor, nn

from cloud.claim import claim
from cloud.held import HeldFolder
from cloud.open import open_store
from entrypoint.console import Console
from entrypoint.report import Report
from entrypoint.saver import Saver
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from perdure import Vocabulary
from tests.benchmarks.measured import Figures, measured
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from tests.benchmarks.step import SETTINGS, Prepared, Small, loaders, ours, with_batches
from tests.benchmarks.wide_task import Wide, WideSettings
from trainer.data import Batch, Loader
from trainer.device import autocast, to_device
from trainer.settings import TrainSettings
from trainer.snapshot import HostCopy
from trainer.state import TrainState, new_state

WIDTH, TINY_WIDTH = 28_900, 64
"""Twelve bytes for each of WIDTH x WIDTH parameters: 10 GB."""

NUM_STEPS, TINY_STEPS = 300, 3


def tables(options: Options) -> Iterator[Table]:
    """What a save takes from the training, steps beside an upload, and steps per second."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        print("gpu: this machine has no CUDA device, or its driver is missing: nothing is measured", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as name:
        yield from _saving(Path(name), device, options)
        yield from _steps(Path(name), device, options)


def _saving(folder: Path, device: torch.device, options: Options) -> Iterator[Table]:
    task = Wide()
    task.settings = WideSettings(width=options.size(WIDTH, TINY_WIDTH))
    state = new_state(task, Vocabulary(), SETTINGS, device)
    state.progress = state.progress.in_round(1)
    batch = torch.ones(32, 16, device=device)
    _step(task, state, batch)
    pinned = [torch.empty(each.shape, dtype=each.dtype, pin_memory=device.type == "cuda") for each in _tensors(state)]
    host = HostCopy()
    num_gb = sum(each.nbytes for each in pinned) / 1e9
    yield Table(
        title=f"{num_gb:.3g} GB of state copied from the device: training stands still",
        cases={
            "pinned copies alone": partial(_on_device, device, lambda: _copy(_tensors(state), pinned)),
            "perdure, snapshot": partial(_on_device, device, lambda: host.take(state.state_dict())),
        },
        ours="perdure, snapshot",
        goals=[Goal(says="blocked at most 2 x the copy alone", most=2.0, against="pinned copies alone")],
    )
    with _saver(folder) as saver:
        quiet, publishing = "quiet", f"while {num_gb:.3g} GB are published"
        yield Table(
            title="one step, quiet and while a checkpoint is digested and written to a local folder",
            cases={
                quiet: lambda: _figures([_step(task, state, batch) for _ in range(options.size(100, 3))]),
                publishing: lambda: _figures(_while_publishing(saver, task, state, batch)),
            },
            ours=publishing,
            goals=[Goal(says="p99 at most 1.1 x quiet", figure="p99_seconds", most=1.1, against=quiet)],
            seconds_unit=("ms", 1e3),
        )


def _tensors(state: TrainState) -> list[Tensor]:
    """Every tensor that a checkpoint holds."""
    moments = [each for values in state.optimizer.state.values() for each in values.values()]
    return [*state.net.state_dict().values(), *(each for each in moments if isinstance(each, Tensor))]


def _copy(tensors: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
    for tensor, buffer in zip(tensors, buffers, strict=True):
        buffer.copy_(tensor.detach(), non_blocking=True)


def _on_device(device: torch.device, work: Any) -> Figures:
    """Until the device is through with it; `device_peak_mb`: above what was allocated there before."""
    _synchronize(device)
    before = _reset_peak(device)
    figures = measured(lambda: (work(), _synchronize(device))[1])
    return {**figures, "device_peak_mb": (_peak(device) - before) / 1e6}


def _step(task: Wide, state: TrainState, batch: Tensor) -> float:
    """Seconds of a step, until the device is through with it."""
    started = time.perf_counter()
    state.optimizer.zero_grad()
    (task.loss(state.net, batch) / len(batch)).backward()
    state.optimizer.step()
    state.progress.global_step += 1
    _synchronize(state.device)
    return time.perf_counter() - started


def _while_publishing(saver: Saver, task: Wide, state: TrainState, batch: Tensor) -> list[float]:
    """Seconds of the steps from the end of a snapshot until it is committed."""
    content = {**state.state_dict(), "settings": {}, "rounds": []}
    saver.save(content, (), None)
    _synchronize(state.device)
    committing = Thread(target=saver.wait)
    committing.start()
    seconds = [_step(task, state, batch)]
    while committing.is_alive():
        seconds.append(_step(task, state, batch))
    return seconds


@contextmanager
def _saver(folder: Path) -> Iterator[Saver]:
    store = open_store(str(folder / "run"), writable=True)
    held = claim(store)
    config = JobConfig(train_url=store.url, cache_dir=folder / "cache", save_every="epoch")
    yield Saver(config, HeldFolder(store, held), Report(Console(), time.monotonic()), "", Stop())
    held.stop_beating()


def _figures(seconds: Sequence[float]) -> Figures:
    found = sorted(seconds)
    return {"seconds": found[len(found) // 2], "p99_seconds": found[int(0.99 * len(found))], "steps": len(found)}


class Deep(Small):
    """A network with enough to do for a GPU: five layers of 4096."""

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        sizes = [64, 4096, 4096, 4096, 4096, 10]
        layers = [each for pair in pairwise(sizes) for each in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*layers[:-1])


def _steps(folder: Path, device: torch.device, options: Options) -> Iterator[Table]:
    """Seconds per step of the whole loop, for each way to compute."""
    num_steps = options.size(NUM_STEPS, TINY_STEPS)
    make = loaders(folder, num_steps, Small() if options.tiny else Deep())
    prepared = list(make(Loader).batches(0))
    ways: dict[str, Mapping[str, Any]] = {"fp32": {}, "bf16": {"precision": "bf16"}}
    if not options.tiny:
        ways["bf16, compiled"] = {"precision": "bf16", "compile": True}
    for way, values in ways.items():
        settings = SETTINGS.model_copy(update=dict(values))
        yield Table(
            title=f"steps of a network on {device.type}, {way}",
            cases={
                "bare loop": lambda settings=settings: _bare(make(Loader).opened.task, prepared, settings, device),
                "perdure": lambda settings=settings: {
                    "seconds": ours(with_batches(make(Prepared), prepared), settings, device) / num_steps
                },
            },
            ours="perdure",
            goals=[Goal(says="no slower than a bare loop by more than 5 %", most=1.05, against="bare loop")],
            seconds_unit=("us", 1e6),
        )


def _bare(task: Small, batches: Sequence[Batch], settings: TrainSettings, device: torch.device) -> Figures:
    """Seconds per step of the loop that one writes by hand."""
    plain = task.build(Vocabulary()).to(device)
    net = torch.compile(plain) if settings.compile else plain
    parameters = list(plain.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, fused=True)
    _synchronize(device)
    started = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        with autocast(settings, device):
            loss = task.loss(net, to_device(batch.micro_batches[0], device)) / batch.num_examples
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    _synchronize(device)
    return {"seconds": (time.perf_counter() - started) / len(batches)}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reset_peak(device: torch.device) -> int:
    """Bytes that are allocated now, above which the next peak is told."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return 0


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


if __name__ == "__main__":
    main(tables)
