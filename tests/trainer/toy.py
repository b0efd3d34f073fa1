"""A small real task over JSON lines, and shards straight from a folder: what the trainer's tests train with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.census import CensusRules, take_census
from trainer.ledger import Ledger, Round, Shard
from trainer.nn.growing import GrowingLinear
from trainer.opened import OpenShards
from trainer.plan import next_round
from trainer.settings import TrainSettings
from trainer.task import Task, TaskSettings
from trainer.vocabulary import Vocabulary

NUM_FEATURES = 6


class Toy(Task):
    """Points with a label: {"x": [...], "y": "a", "id": "..."}, through BatchNorm and dropout."""

    suffixes = (".jsonl",)
    best_metric = "accuracy"
    settings = TaskSettings()

    def read(self, path: Path) -> Sequence[Any]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    def label(self, example: Any) -> str | None:
        return str(example["y"])

    def key(self, example: Any) -> str | None:
        return example.get("id")

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        head = GrowingLinear(16, vocabulary.block_sizes("label"))
        return nn.Sequential(nn.Linear(NUM_FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), head)

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        x = torch.tensor([example["x"] for example in examples])
        if seeds is not None:  # a little noise, so that the seeds matter
            x = x + torch.from_numpy((seeds % 1000).astype(np.float32))[:, None] * 1e-4
        return {"x": x, "y": torch.tensor([vocabulary.ids("label")[example["y"]] for example in examples])}

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        return functional.cross_entropy(net(batch["x"]), batch["y"], reduction="sum")

    def predict(self, net: nn.Module, batch: Any) -> Sequence[Any]:
        return list(zip(batch["y"].tolist(), net(batch["x"]).argmax(1).tolist(), strict=True))

    def right(self, prediction: Any) -> bool:
        return bool(prediction[0] == prediction[1])

    def scores(self, predictions: Sequence[Any], vocabulary: Vocabulary) -> Mapping[str, Any]:
        return {"accuracy": sum(target == said for target, said in predictions) / len(predictions)}


class FolderShards:
    """Shards that lie in a folder already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acquired: list[str] = []

    def prefetch(self, wanted: Sequence[Shard]) -> None:
        pass

    def file_of(self, wanted: Shard) -> AbstractContextManager[tuple[Path, str]]:
        path = self.folder / wanted.key
        self.acquired.append(wanted.key)
        return nullcontext((path, hashlib.sha256(path.read_bytes()).hexdigest()))


def write_shard(folder: Path, key: str, labels: Sequence[str], seed: int = 0) -> None:
    """A shard of one point per label, near a centre of that label."""
    random = np.random.default_rng([seed, *key.encode()])
    lines = []
    for number, label in enumerate(labels):
        centre = np.random.default_rng(list(label.encode())).normal(size=NUM_FEATURES)
        x = (centre + 0.3 * random.normal(size=NUM_FEATURES)).round(4).tolist()
        lines.append(json.dumps({"x": x, "y": label, "id": f"{key}-{number}"}))
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def census(opened: OpenShards, shards: FolderShards, key: str, rules: CensusRules | None = None) -> Shard:
    """The census of one file."""
    path = shards.folder / key
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    split = "eval" if key.startswith("eval/") else "train"
    found = Shard(key=key, size=path.stat().st_size, sha256=sha256, split=split)
    with opened.open(found) as examples:
        return take_census(opened.task, examples, found, rules or CensusRules(), lambda: None)


def first_round(shards: Sequence[Shard], settings: TrainSettings, window_bytes: int = 2000) -> Round:
    """Round 1 over these shards."""
    round = next_round(Ledger(), shards, [], settings, window_bytes)
    assert round is not None
    return round


def vocabulary_of(*rounds: Round) -> Vocabulary:
    """The labels of rounds, one block each."""
    vocabulary = Vocabulary()
    for round in rounds:
        vocabulary = vocabulary.add("label", round.labels)
    return vocabulary
