"""A task whose network counts how often each example was trained: what is committed says itself what it has seen."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.trainer.toy import NUM_FEATURES, Toy
from trainer.task import TaskSettings
from trainer.vocabulary import Vocabulary


class CountedSettings(TaskSettings):
    """How many examples are counted, and how large a checkpoint is: `num_ballast` numbers that nothing changes."""

    num_counted: int = 1024
    num_ballast: int = 0


class CountedNet(nn.Module):
    """BatchNorm and dropout, and beside them the times that each example came by in training."""

    def __init__(self, inner: nn.Module, settings: CountedSettings) -> None:
        super().__init__()
        self.inner = inner
        self.times: Tensor
        self.register_buffer("times", torch.zeros(settings.num_counted, dtype=torch.int64))
        self.register_buffer("ballast", torch.arange(settings.num_ballast, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


class Counted(Toy):
    """Examples are numbered: {"id": 17, "x": [...], "y": "a"}."""

    Settings = CountedSettings
    settings = CountedSettings()

    def key(self, example: Any) -> str | None:
        return str(example["id"])

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return CountedNet(super().build(vocabulary), self.settings)

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        ids = torch.tensor([example["id"] for example in examples])
        return {**super().collate(examples, vocabulary, seeds), "ids": ids}

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        assert isinstance(net, CountedNet)
        if net.training:
            net.times.index_add_(0, batch["ids"], torch.ones_like(batch["ids"]))
        return super().loss(net, batch)


def write_counted(path: Path, ids: Iterable[int], labels: str) -> None:
    """A shard of numbered points, each near the centre of its label."""
    lines = []
    for number in ids:
        label = labels[number % len(labels)]
        centre = np.random.default_rng(list(label.encode())).normal(size=NUM_FEATURES)
        x = (centre + 0.3 * np.random.default_rng(number).normal(size=NUM_FEATURES)).round(4).tolist()
        lines.append(json.dumps({"id": number, "x": x, "y": label}))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
