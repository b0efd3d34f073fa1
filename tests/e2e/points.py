"""Small tasks that tests name by path: `points.py:Points` has keys, `points.py:Plain` a network of fixed size."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.nn.growing import GrowingLinear
from trainer.task import Task, TaskSettings
from trainer.vocabulary import Vocabulary


class Lines(Sequence[Any]):
    """JSON lines, each parsed when it is asked for."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: Any) -> Any:
        return json.loads(self._lines[index])


class Points(Task):
    """Points of a plane with a label and a key."""

    suffixes = (".jsonl",)
    best_metric = "accuracy"

    def read(self, path: Path) -> Lines:
        return Lines(path.read_text().splitlines())

    def label(self, example: Any) -> str | None:
        return str(example["y"])

    def key(self, example: Any) -> str | None:
        return str(example["id"])

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), GrowingLinear(8, vocabulary.block_sizes("label")))

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> tuple[Tensor, ...]:
        ids = vocabulary.ids("label")
        return torch.tensor([each["x"] for each in examples]), torch.tensor([ids[each["y"]] for each in examples])

    def loss(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return functional.cross_entropy(net(batch[0]), batch[1], reduction="sum")

    def predict(self, net: nn.Module, batch: tuple[Tensor, ...]) -> Sequence[Any]:
        return list(zip(batch[1].tolist(), net(batch[0]).argmax(1).tolist(), strict=True))

    def right(self, prediction: Any) -> bool:
        return bool(prediction[0] == prediction[1])

    def scores(self, predictions: Sequence[Any], vocabulary: Vocabulary) -> Mapping[str, Any]:
        return {"accuracy": sum(target == said for target, said in predictions) / len(predictions)}


def plain_net(hidden: int = 8) -> nn.Module:
    """The network of somebody who never heard of this project."""
    return nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, 2))


class PlainSettings(TaskSettings):
    """The width of the hidden layer."""

    hidden: int = 8


class Plain(Points):
    """The same points, without keys, through that network."""

    Settings = PlainSettings
    settings: PlainSettings

    def key(self, example: Any) -> str | None:
        return None

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return plain_net(self.settings.hidden)
