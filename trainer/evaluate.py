"""Scores on the evaluation data: as a whole, by the round that brought a shard, by the round that brought a label."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.census import usable_indices
from trainer.device import autocast, to_device
from trainer.errors import DataError
from trainer.ledger import Ledger, Shard
from trainer.opened import OpenShards
from trainer.settings import TrainSettings
from trainer.state import TrainState
from trainer.task import Task
from trainer.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class _Judged:
    """What `predict` said of one example, the round that brought its shard and the one that brought its label."""

    prediction: Any
    shard_round: int
    label_round: int | None


class Evaluation:
    """The evaluation data of a ledger: evaluation shards, and examples held out of training shards."""

    def __init__(self, ledger: Ledger, opened: OpenShards, settings: TrainSettings) -> None:
        self._shards = ledger.evaluation()
        self._label_rounds = ledger.rounds_of_labels()
        self._opened = opened
        self._settings = settings

    def check_labels(self) -> None:
        """DataError when an evaluation shard has a label that no training shard brought."""
        for _, shard in self._shards:
            labels = shard.labels if shard.split == "eval" else shard.held_out_labels
            unknown = sorted(label for label in labels if label and label not in self._label_rounds)
            if unknown:
                raise DataError(
                    f"{shard.key}: label {unknown[0]!r} is in no training shard; add examples of it, or take it out"
                )

    def scores(self, state: TrainState, stopping: Callable[[], bool]) -> Mapping[str, Any] | None:
        """All scores, {} without evaluation data; None when `stopping()` became true between two batches."""
        state.net.eval()
        judged: list[_Judged] = []
        with torch.no_grad(), autocast(self._settings, state.device):
            for batch in self._batches(state):
                judged += batch
                if stopping():
                    return None
        return self._summary(judged, state.vocabulary) if judged else {}

    def _batches(self, state: TrainState) -> Iterator[list[_Judged]]:
        self._opened.prefetch([shard for _, shard in self._shards])
        size = self._settings.micro_batch_size or self._settings.batch_size
        for number, shard in self._shards:
            with self._opened.open(shard) as examples:
                indices = _indices(shard)
                for start in range(0, len(indices), size):
                    chosen = [examples[index] for index in indices[start : start + size].tolist()]
                    yield self._judge(state, chosen, number)

    def _judge(self, state: TrainState, examples: Sequence[Any], shard_round: int) -> list[_Judged]:
        task = self._opened.task
        batch = to_device(task.collate(examples, state.vocabulary, None), state.device)
        labels = [task.label(example) for example in examples]
        rounds = [None if label is None else self._label_rounds.get(label) for label in labels]
        predictions = task.predict(state.net, batch)
        return [_Judged(item, shard_round, known) for item, known in zip(predictions, rounds, strict=True)]

    def _summary(self, judged: Sequence[_Judged], vocabulary: Vocabulary) -> Mapping[str, Any]:
        scores = self._opened.task.scores
        by_shard = _grouped(judged, [one.shard_round for one in judged])
        by_label = _grouped(judged, [one.label_round for one in judged])
        return {
            **_counted(scores([one.prediction for one in judged], vocabulary), len(judged)),
            "by_round": {str(n): _counted(scores(group, vocabulary), len(group)) for n, group in by_shard.items()},
            "by_label_round": {
                str(n): _counted(scores(group, vocabulary), len(group)) for n, group in by_label.items()
            },
        }


@torch.no_grad()
def predictions(
    task: Task, net: nn.Module, vocabulary: Vocabulary, examples: Sequence[Any], batch_size: int
) -> Iterator[Any]:
    """What `predict` says of each example, in batches, where the network is. It is left in evaluation mode."""
    net.eval()
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    for start in range(0, len(examples), batch_size):
        chosen = [examples[index] for index in range(start, min(start + batch_size, len(examples)))]
        yield from task.predict(net, to_device(task.collate(chosen, vocabulary, None), device))


def _indices(shard: Shard) -> np.ndarray:
    return usable_indices(shard) if shard.split == "eval" else np.array(shard.held_out, dtype=np.int64)


def _grouped(judged: Sequence[_Judged], rounds: Sequence[int | None]) -> dict[int, list[Any]]:
    """Predictions by round, those without one left out."""
    groups: dict[int, list[Any]] = {}
    for one, number in zip(judged, rounds, strict=True):
        if number is not None:
            groups.setdefault(number, []).append(one.prediction)
    return dict(sorted(groups.items()))


def _counted(scores: Mapping[str, Any], num_examples: int) -> dict[str, Any]:
    return {**plain_scores(scores), "num_examples": num_examples}


def plain_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores as JSON has them: numbers of NumPy and torch become Python's, what is not finite becomes None."""
    return {str(name): _plain(value) for name, value in scores.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_scores(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def best_metric(task: Task, settings: TrainSettings) -> str:
    """The score that checkpoints are compared by: `--best_metric`, else the task's own; "" when there is neither."""
    return settings.best_metric or task.best_metric


def score_of(metrics: Mapping[str, Any], name: str) -> float | None:
    """The score that tells a better checkpoint, higher being better; of "-loss" the negative; None when not there."""
    value = metrics.get(name.removeprefix("-"))
    if not isinstance(value, (int, float)):
        return None
    return -float(value) if name.startswith("-") else float(value)
