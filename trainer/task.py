"""What differs between trainings: the protocol of a task, and how one is found by name, path or module."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from trainer.vocabulary import Vocabulary

Scores = Mapping[str, Any]


class TaskSettings(BaseModel):
    """Base of a task's own settings (`--set name=value`): frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Protocol):
    """Subclass it, name the suffixes, and write at least `read`, `build`, `collate`, `loss`, `predict`, `scores`.

    The job sets `settings` to an instance of the class's `Settings` and then calls the methods; a task keeps
    no other state that matters, so that every attempt behaves alike. All randomness comes from torch's default
    generator (in the network) or from the `seeds` given to `collate`.
    """

    Settings: type[TaskSettings] = TaskSettings
    settings: TaskSettings
    suffixes: tuple[str, ...]
    """File names that are shards, e.g. (".tar",); compressed ones (".tar.gz") are then shards too."""
    best_metric: str = ""
    """The score that tells a better checkpoint (higher is better); "" for the evaluation loss."""

    def read(self, path: Path) -> Sequence[Any]:
        """The examples of a local shard, by index; those that must hold files open close them with `close()`.

        Raises ValueError when it is no shard. Indexing a bad example raises ValueError (BadExample), each time.
        """
        raise NotImplementedError

    def label(self, example: Any) -> str | None:
        """What old data is balanced by, what forgetting is reported for; None where there is none."""
        return None

    def key(self, example: Any) -> str | None:
        """What tells this example from the others when its shard is edited; None where there is none."""
        return None

    def grow(self, vocabulary: Vocabulary, labels: Iterable[str], examples: Iterable[Any]) -> Vocabulary:
        """The vocabulary for a round: `labels` and `examples` are those the round brings; default: the labels."""
        return vocabulary.add("label", labels)

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        """The network for a vocabulary, with new parameters drawn from torch's default generator.

        Parameters of a smaller vocabulary keep name and shape when it grows: new names get new parameters.
        """
        raise NotImplementedError

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        """A batch (any nest of tensors, dicts, lists, tuples) of n examples.

        `seeds`, uint64 of shape (n,), are what random augmentation of each example is drawn from; None in evaluation.
        """
        raise NotImplementedError

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch, a scalar: the *sum* over its examples."""
        raise NotImplementedError

    def predict(self, net: nn.Module, batch: Any) -> Sequence[Any]:
        """One item per example (say target and prediction, on the CPU): what `scores` is computed from."""
        raise NotImplementedError

    def scores(self, predictions: Sequence[Any], vocabulary: Vocabulary) -> Scores:
        """Named scores of any number of items of `predict`: floats, or mappings of names to floats."""
        raise NotImplementedError
