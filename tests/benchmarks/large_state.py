"""A training state of a chosen size (layers of 1024 x 1024 with AdamW), and what saves it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor, nn

from cloud.claim import claim
from cloud.held import HeldFolder
from cloud.open import open_store
from cloud.records import Outcome
from cloud.store import Store, Writer
from cloud.wrapped import Wrapped
from entrypoint.console import Console
from entrypoint.report import Report
from entrypoint.saver import Saver
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from perdure import Task, TaskSettings, Vocabulary
from trainer.settings import TrainSettings
from trainer.state import TrainState, new_state

WIDTH = 1024
LAYER_BYTES = 3 * 4 * WIDTH * (WIDTH + 1)
"""Of a layer and its two moments."""

CPU = torch.device("cpu")
SETTINGS = TrainSettings()


class Layers(Task):
    """Layers of one width, which map rows to rows."""

    settings = TaskSettings()
    suffixes = (".csv",)

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers

    def read(self, path: Path) -> Sequence[Any]:
        return []

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(self.num_layers)))

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        return torch.ones(len(examples), WIDTH)

    def loss(self, net: nn.Module, batch: Tensor) -> Tensor:
        return net(batch).square().sum()  # type: ignore[no-any-return]

    def predict(self, net: nn.Module, batch: Any) -> Sequence[Any]:
        return []

    def scores(self, predictions: Sequence[Any], vocabulary: Vocabulary) -> Mapping[str, Any]:
        return {}


def layers(num_bytes: int) -> Layers:
    """The task whose state has about so many bytes, and at least one layer."""
    return Layers(max(1, round(num_bytes / LAYER_BYTES)))


def trained(task: Layers) -> TrainState:
    """A state after one step, so that it has moments."""
    state = new_state(task, Vocabulary(), SETTINGS, CPU)
    state.progress = state.progress.in_round(1)
    step(task, state)
    return state


def step(task: Layers, state: TrainState) -> None:
    """One step on the smallest batch: most of it is the optimizer's."""
    state.optimizer.zero_grad()
    task.loss(state.net, task.collate([None], state.vocabulary, None)).backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.progress.global_step += 1


def moved(state: TrainState) -> TrainState:
    """As after another step, which took no time."""
    with torch.no_grad():
        state.parameters[0][0, 0] += 1
    state.progress.global_step += 1
    return state


def content(state: TrainState) -> dict[str, Any]:
    """What the job would have saved of it."""
    return {**state.state_dict(), "progress": asdict(state.progress), "settings": {}}


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a nest."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(item)


class Discarding(Wrapped):
    """Takes the objects of checkpoints and forgets them, so that no server's work is measured."""

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        if key.endswith(".pth"):
            yield _Nowhere()
        else:
            with self.inner.writer(key) as writer:
                yield writer


class _Nowhere:
    def write(self, data: bytes | memoryview, /) -> int:
        return len(data)


def discarding() -> Store:
    """A folder in memory whose checkpoints are forgotten."""
    return Discarding(open_store(f"memory://{uuid4().hex}/", writable=True))


@contextmanager
def saver_on(store: Store, **settings: Any) -> Iterator[Saver]:
    """A job's saver, with the claim on its folder."""
    held = claim(store)
    config = JobConfig(train_url=store.url, **settings)
    yield Saver(config, HeldFolder(store, held), Report(Console(), monotonic()), "", Stop())
    held.finish(Outcome(outcome="done", exit_code=0))
