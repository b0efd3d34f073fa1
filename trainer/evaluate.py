"""Scores on the evaluation data: as a whole, by the round of shard or label, against the network before the round."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.census import usable_indices
from trainer.comparison import Before, flips, forgetting, named_scores, numbers, packed, unpacked
from trainer.device import autocast, to_device
from trainer.errors import DataError, Incomparable, reason, shown
from trainer.ledger import Ledger, Shard
from trainer.opened import OpenShards
from trainer.settings import TrainSettings
from trainer.state import TrainState
from trainer.task import UNREADABLE, Task
from trainer.vocabulary import Vocabulary

_LOG = logging.getLogger(__name__)
NOWHERE = 0
"""Stands for the round of a label that no training shard has."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What `predict` said of one example, the round that brought its shard and the one that brought its label."""

    prediction: Any
    right: bool | None
    shard_round: int
    label_round: int | None


class Evaluation:
    """The evaluation data of a ledger: evaluation shards, and examples held out of training shards."""

    def __init__(self, ledger: Ledger, opened: OpenShards, settings: TrainSettings) -> None:
        self._shards = ledger.evaluation()
        self._label_rounds = ledger.rounds_of_labels()
        self._today: dict[str, int] = {}
        self._today_in: Vocabulary | None = None
        self._newest = len(ledger)
        self._opened = opened
        self._settings = settings

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._shards)

    def check_labels(self, vocabulary: Vocabulary) -> None:
        """Warn of evaluation data with labels that nothing is trained on, under any of their names.

        DataError where the task cannot score them.
        """
        rounds, task = self._rounds_today(vocabulary), self._opened.task
        for _, shard in self._shards:
            labels = shard.labels if shard.split == "eval" else shard.held_out_labels
            unknown = sorted(label for label in labels if label and task.label_today(vocabulary, label) not in rounds)
            if unknown and not task.scores_unknown_labels:
                raise DataError(
                    f"{shard.key}: label {unknown[0]!r} is in no training shard; add examples of it, or take it out"
                )
            if unknown:
                text = "%s: labels that no training example has: %s (%s of %s evaluation examples); they count as wrong"
                nums = (sum(labels[label] for label in unknown), sum(labels.values()))
                _LOG.warning(text, shard.key, shown(list(map(repr, unknown))), *(f"{num:,}" for num in nums))

    def new_labels(self, vocabulary: Vocabulary) -> list[str]:
        """The labels of the newest round that no earlier one brought under any of their names, by those of today."""
        rounds = self._rounds_today(vocabulary).items()
        return sorted(label for label, number in rounds if label and number == self._newest)

    def scores(self, state: TrainState, stopping: Callable[[], bool]) -> Mapping[str, Any] | None:
        """All scores, {} without evaluation data; None when `stopping()` became true between two batches."""
        judged = self._judged(state, lambda examples, number: self._judge(state, examples, number), stopping)
        if judged is None:
            return None
        return self._summary(judged, state) if judged else {}

    def before(self, state: TrainState, stopping: Callable[[], bool]) -> Before | None:
        """What the network before the newest round, not grown yet, says of the examples whose labels it knows.

        None without any, and when `stopping()` became true; Incomparable when the task cannot judge them.
        """
        judged = self._judged(state, lambda examples, number: self._judge_known(state, examples, number), stopping)
        known = [one for one in judged or () if self._was_known(one.label_round)]
        if judged is None or not known:
            return None
        scores = self._numbers(known, state.vocabulary)
        num_examples = int(scores.pop("num_examples"))
        return Before(scores=scores, num_examples=num_examples, right=packed([one.right for one in judged]))

    def _judged(
        self, state: TrainState, judge: Callable[[Sequence[Any], int], list[_Judged]], stopping: Callable[[], bool]
    ) -> list[_Judged] | None:
        """What `judge` makes of every batch, in the order of the data; None when a stop came between two."""
        state.net.eval()
        judged: list[_Judged] = []
        with torch.no_grad(), autocast(self._settings, state.device):
            for shard_round, examples in self._batches():
                judged += judge(examples, shard_round)
                if stopping():
                    return None
        return judged

    def _batches(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """Examples, and the round that first saw their shard."""
        self._opened.prefetch([shard for _, shard in self._shards])
        size = self._settings.micro_batch_size or self._settings.batch_size
        for number, shard in self._shards:
            with self._opened.open(shard) as examples:
                indices = _indices(shard)
                for start in range(0, len(indices), size):
                    chosen = indices[start : start + size]
                    yield number, self._opened.task.take([examples], np.zeros_like(chosen), chosen)

    def _judge(self, state: TrainState, examples: Sequence[Any], shard_round: int) -> list[_Judged]:
        task = self._opened.task
        batch = to_device(task.collate(examples, state.vocabulary, None), state.device)
        predictions = task.predict(state.net, batch)
        return [
            _Judged(said, task.right(said), shard_round, self._label_round(state, example))
            for said, example in zip(predictions, examples, strict=True)
        ]

    def _judge_known(self, state: TrainState, examples: Sequence[Any], shard_round: int) -> list[_Judged]:
        """As `_judge`, of the network before the newest round: what has a label it cannot know is not shown."""
        rounds = [self._label_round(state, example) for example in examples]
        known = [example for example, number in zip(examples, rounds, strict=True) if self._was_known(number)]
        try:
            judged = iter(self._judge(state, known, shard_round) if known else ())
        except (*UNREADABLE, RuntimeError) as error:  # the task met a name that is none of a label
            raise Incomparable(reason(error)) from error
        return [
            next(judged) if self._was_known(number) else _Judged(None, None, shard_round, number) for number in rounds
        ]

    def _label_round(self, state: TrainState, example: Any) -> int | None:
        label = self._opened.task.label(example)
        if label is None:
            return None
        return self._rounds_today(state.vocabulary).get(self._opened.task.label_today(state.vocabulary, label), NOWHERE)

    def _rounds_today(self, vocabulary: Vocabulary) -> Mapping[str, int]:
        """For each label, as it is called today, the first round that brought it under any of its names."""
        if self._today_in is not vocabulary:
            self._today_in, self._today = vocabulary, {}
            for label, number in self._label_rounds.items():
                name = self._opened.task.label_today(vocabulary, label)
                self._today[name] = min(number, self._today.get(name, number))
        return self._today

    def _was_known(self, label_round: int | None) -> bool:
        """Whether the network before the newest round could know a label of that round; no label is no hindrance."""
        return label_round is None or NOWHERE < label_round < self._newest

    def _summary(self, judged: Sequence[_Judged], state: TrainState) -> Mapping[str, Any]:
        scores, vocabulary = self._opened.task.scores, state.vocabulary
        by_shard = _grouped(judged, [one.shard_round for one in judged])
        by_label = _grouped(judged, [one.label_round for one in judged])
        return {
            **_counted(scores([one.prediction for one in judged], vocabulary), len(judged)),
            "by_round": {str(n): _counted(scores(group, vocabulary), len(group)) for n, group in by_shard.items()},
            "by_label_round": {
                str(n): _counted(scores(group, vocabulary), len(group)) for n, group in by_label.items()
            },
            **(self._compared(judged, state) if self._newest > 1 else {}),
        }

    def _compared(self, judged: Sequence[_Judged], state: TrainState) -> Mapping[str, Any]:
        """Old and new labels apart, and both networks on the examples that the one before the round could know."""
        is_old = [self._was_known(one.label_round) for one in judged]
        old = [one for one, was_known in zip(judged, is_old, strict=True) if was_known]
        new = [one for one in judged if one.label_round == self._newest]
        groups = {"old_labels": old, "new_labels": new}
        scores = {name: self._numbers(group, state.vocabulary) for name, group in groups.items() if group}
        before = state.progress.before
        if before is None or not old:
            return scores
        return {
            **scores,
            "before": {**before.scores, "num_examples": before.num_examples},
            "forgetting": forgetting(before.scores, scores["old_labels"]),
            "flips": flips(unpacked(before.right, len(judged))[is_old], [one.right for one in old]),
        }

    def _numbers(self, judged: Sequence[_Judged], vocabulary: Vocabulary) -> dict[str, float]:
        scores = self._opened.task.scores([one.prediction for one in judged], vocabulary)
        return {**numbers(plain_scores(scores)), "num_examples": len(judged)}


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
    """Predictions by round, those without one, or of a label that no round brought, left out."""
    groups: dict[int, list[Any]] = {}
    for one, number in zip(judged, rounds, strict=True):
        if number:
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
    value = named_scores(metrics).get(name.removeprefix("-"))
    if value is None:
        return None
    return -float(value) if name.startswith("-") else float(value)
