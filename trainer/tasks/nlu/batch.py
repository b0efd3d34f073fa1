"""Messages as the tensors that the network takes."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trainer.tasks.nlu.features import Bags, Features, Featurizer
from trainer.tasks.nlu.labels import Shares, Told
from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.renames import today
from trainer.tasks.nlu.tags import LAYERS, to_tags
from trainer.vocabulary import Vocabulary

LABELS = ("intent", "response")
"""The kinds of names that a whole message is told by."""
NO_BAG = Bags(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))


class BagTensors(NamedTuple):
    """Features of one thing after the other: `ids` int64 and `weights` float32, each thing's from its offset on."""

    ids: Tensor
    offsets: Tensor
    weights: Tensor


class Batch(NamedTuple):
    """n messages of up to L tokens, N tokens in all, and their features.

    `messages` are n bags, `forms` N of them (none where there are no tags), `places` (N,) the tokens' rows among
    n * L. `labels` are by kind, `tags` int64 (n, L) by layer. `dense` is float32 (n, 2 D) and `dense_tokens` (N, D),
    what a pretrained encoder of width D says, of length 1; D = 0 where there is none.
    """

    messages: BagTensors
    forms: BagTensors
    dense: Tensor
    dense_tokens: Tensor
    places: Tensor
    lengths: Tensor
    labels: Mapping[str, Told]
    tags: Mapping[str, Tensor]


class Collated(NamedTuple):
    """A batch, and what predictions are made from: the messages, their features, and what knows the names."""

    inputs: Batch
    messages: Sequence[Message]
    features: Sequence[Features]
    featurizer: Featurizer


def collated(messages: Sequence[Message], featurizer: Featurizer, shares: Mapping[str, Shares]) -> Collated:
    """Features and targets of messages, by the names of today; one that is not in the vocabulary is no target.

    `shares` of the labels, by kind, go by the names that the data says.
    """
    vocabulary, said = featurizer.vocabulary, messages
    messages = [today(vocabulary, message) for message in messages]
    features = featurizer.of([message.text for message in messages])
    lengths = np.array([len(one.tokens) for one in features], dtype=np.int64)
    length = max(1, lengths.max(initial=0))
    batch = Batch(
        messages=_bags([one.message for one in features]),
        forms=_bags([one.forms for one in features]),
        dense=_dense([one.dense.message[None] for one in features if one.dense], len(features)),
        dense_tokens=_dense([one.dense.tokens for one in features if one.dense], lengths.sum()),
        places=torch.from_numpy(np.flatnonzero(np.arange(length) < lengths[:, None])),
        lengths=torch.from_numpy(lengths),
        labels={
            kind: Told(
                targets=_labels(messages, kind, vocabulary),
                weights=_weights(said, kind, shares[kind].weights),
                margins=shares[kind].margins,
            )
            for kind in LABELS
            if vocabulary.ids(kind)
        },
        tags={layer: _tags(messages, features, layer, vocabulary) for layer in LAYERS if vocabulary.ids(layer)},
    )
    return Collated(batch, messages, features, featurizer)


def _bags(bags: Sequence[Bags]) -> BagTensors:
    ids, weights, sizes = (np.concatenate(column) for column in zip(*bags or [NO_BAG], strict=True))
    return BagTensors(torch.from_numpy(ids), torch.from_numpy(np.cumsum(sizes) - sizes), torch.from_numpy(weights))


def _dense(rows: Sequence[np.ndarray], num: int) -> Tensor:
    """The encoder's rows, of length 1; (num, 0) where there is no encoder."""
    joined = np.concatenate(rows).astype(np.float32) if rows else np.empty((num, 0), np.float32)
    return nn.functional.normalize(torch.from_numpy(joined), dim=1)


def _labels(messages: Sequence[Message], kind: str, vocabulary: Vocabulary) -> Tensor:
    ids = vocabulary.ids(kind)
    return torch.tensor([ids.get(name, -1) for name in _names(messages, kind)], dtype=torch.int64)


def _weights(messages: Sequence[Message], kind: str, weights: Mapping[str, float]) -> Tensor:
    """1 where a label is not among them."""
    return torch.tensor([weights.get(name, 1.0) for name in _names(messages, kind)], dtype=torch.float32)


def _names(messages: Sequence[Message], kind: str) -> list[str]:
    """What each message is, "" where it is nothing of this kind."""
    return [(message.intent if kind == "intent" else message.response_key) or "" for message in messages]


def _tags(messages: Sequence[Message], features: Sequence[Features], layer: str, vocabulary: Vocabulary) -> Tensor:
    """int64 (n, L), 0 behind the end."""
    ids = vocabulary.ids(layer)
    length = max(1, *(len(one.tokens) for one in features))
    rows = (to_tags(one.tokens, message.entities, layer, ids) for one, message in zip(features, messages, strict=True))
    padded = (row + [0] * (length - len(row)) for row in rows)
    return torch.tensor(list(chain.from_iterable(padded)), dtype=torch.int64).view(len(messages), length)
