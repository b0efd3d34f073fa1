"""The network of task `nlu`: features to states by an encoder, states to intents, responses and tags by heads."""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.nn.growing import GrowingEmbedding
from trainer.tasks.nlu.bag import Bag
from trainer.tasks.nlu.batch import LABELS, Batch
from trainer.tasks.nlu.diet import Diet, SimilarityHead
from trainer.tasks.nlu.labels import LabelHead
from trainer.tasks.nlu.tagger import TagHead
from trainer.tasks.nlu.tags import LAYERS
from trainer.vocabulary import Vocabulary


class States(NamedTuple):
    """What the network makes of a batch: logits (n, names) by kind, and states of tokens (n, L, features)."""

    logits: Mapping[str, Tensor]
    tokens: Tensor


class Net(nn.Module):
    """All of it, for a vocabulary: what grows has parameters by block, and a kind without names has none."""

    def __init__(
        self, vocabulary: Vocabulary, encoder: Bag | Diet, *, width: int, feature_dropout: float, dense_width: int = 0
    ) -> None:
        """`dense_width`: how wide the features of a pretrained encoder are; 0 without one."""
        super().__init__()
        sizes = {kind: vocabulary.block_sizes(kind) for kind in (*LABELS, *LAYERS) if vocabulary.block_sizes(kind)}
        self.embedding = GrowingEmbedding(vocabulary.block_sizes("feature"), width)
        self.encoder, self.is_diet = encoder, isinstance(encoder, Diet)
        head = SimilarityHead if self.is_diet else LabelHead
        self.labels = nn.ModuleDict(
            {kind: head(self.encoder.message_features, sizes[kind]) for kind in LABELS if kind in sizes}
        )
        self.tags = nn.ModuleDict(
            {layer: TagHead(self.encoder.token_features, sizes[layer]) for layer in LAYERS if layer in sizes}
        )
        forms = vocabulary.block_sizes("lexical") if self.tags or self.is_diet else ()
        self.forms = GrowingEmbedding(forms, encoder.token_width)
        self.dense = nn.Linear(dense_width, width) if dense_width else None
        self.dense_tokens = nn.Linear(dense_width, encoder.token_width) if dense_width and forms else None
        self.feature_dropout = feature_dropout

    def forward(self, batch: Batch) -> States:
        """Logits of messages and states of their tokens."""
        token_states, message_states = self._states(batch)
        return States({kind: head(message_states) for kind, head in self.label_heads().items()}, token_states)

    def label_heads(self) -> dict[str, LabelHead | SimilarityHead]:
        """The heads of whole messages, by kind."""
        return cast(dict[str, LabelHead | SimilarityHead], dict(self.labels.items()))

    def tag_heads(self) -> dict[str, TagHead]:
        """The heads of tokens, by layer."""
        return cast(dict[str, TagHead], dict(self.tags.items()))

    def loss(self, batch: Batch, label_smoothing: float) -> Tensor:
        """The loss of all heads, summed over messages, a scalar."""
        token_states, message_states = self._states(batch)
        heads, targets = self.label_heads(), batch.labels
        losses = [head.loss(message_states, targets[kind], label_smoothing) for kind, head in heads.items()]
        for layer, head in self.tag_heads().items():
            losses.append(head.loss(token_states, batch.lengths, batch.tags[layer]))
        return torch.stack(losses).sum()

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the encoder makes of tokens and messages."""
        states: tuple[Tensor, Tensor] = self.encoder(*self._embedded(batch), batch.lengths)
        return states

    def _embedded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Weighted sums of features: of tokens' forms (n, L, width), 0 behind their end, and of messages (n, width)."""
        messages = self._bags(self.embedding(), *batch.messages)
        return self._tokens(batch), messages if self.dense is None else messages + self.dense(batch.dense)

    def _tokens(self, batch: Batch) -> Tensor:
        """(n, 0, width) where nothing is read token by token."""
        table: Tensor = self.forms()
        n, length, width = len(batch.lengths), max(1, int(batch.lengths.max())), table.shape[1]
        if not (self.tags or self.is_diet):
            return table.new_zeros(n, 0, width)
        tokens = self._bags(table, *batch.forms)
        if self.dense_tokens is not None:
            tokens = tokens + self.dense_tokens(batch.dense_tokens)
        return table.new_zeros(n * length, width).index_copy(0, batch.places, tokens).view(n, length, width)

    def _bags(self, table: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        if self.training and self.feature_dropout:
            weights = nn.functional.dropout(weights, self.feature_dropout)
        return nn.functional.embedding_bag(ids, table, offsets, mode="sum", per_sample_weights=weights)
