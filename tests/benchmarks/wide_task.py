"""A task whose checkpoint has a chosen size, and which tells when its second step has ended."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from perdure import Task, TaskSettings, Vocabulary
from tests.benchmarks.reported import report_and_stop


class WideSettings(TaskSettings):
    """`width` units in each of two layers; with `report`, the seconds since the process began are written there."""

    width: int = Field(default=2000, ge=1)
    report: str = ""


class Wide(Task):
    """Lines of numbers, and their sum to be predicted."""

    Settings = WideSettings
    suffixes = (".csv",)
    num_losses = 0

    def read(self, path: Path) -> Sequence[Any]:
        return np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)  # type: ignore[return-value]

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        width = self.settings.width  # type: ignore[attr-defined]
        return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        return torch.from_numpy(np.stack(examples))

    def loss(self, net: nn.Module, batch: Tensor) -> Tensor:
        self.num_losses += 1
        if self.num_losses == 3 and os.environ.get("BENCHMARK_REPORT"):
            report_and_stop(Path(os.environ["BENCHMARK_REPORT"]))
        return (net(batch).squeeze(1) - batch.sum(1)).square().sum()

    def predict(self, net: nn.Module, batch: Tensor) -> Sequence[Any]:
        return list((net(batch).squeeze(1) - batch.sum(1)).square().tolist())

    def scores(self, predictions: Sequence[Any], vocabulary: Vocabulary) -> Mapping[str, Any]:
        return {"error": float(np.mean(predictions))}
