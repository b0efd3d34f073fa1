"""The network of task `nlu`: features to states by an encoder, states to intents, responses and tags by heads."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.nn.growing import GrowingEmbedding, GrowingLinear
from trainer.tasks.nlu.bag import Bag
from trainer.tasks.nlu.batch import LABELS, Batch
from trainer.tasks.nlu.tagger import TagHead
from trainer.tasks.nlu.tags import LAYERS
from trainer.vocabulary import Vocabulary

UNSEEN = -4.0
"""Where the logits of a new round's labels start: none is preferred to what is known before it was trained."""
FREQUENCY_DECAY = 0.99
"""What is left, after a step, of the weight that earlier messages have in the frequencies of labels."""


class States(NamedTuple):
    """What the network makes of a batch: logits (n, names) by kind, and states of tokens (n, L, features)."""

    logits: Mapping[str, Tensor]
    tokens: Tensor


class Net(nn.Module):
    """All of it, for a vocabulary: what grows has parameters by block, and a kind without names has none."""

    def __init__(
        self, vocabulary: Vocabulary, *, width: int, hidden: int, feature_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        sizes = {kind: vocabulary.block_sizes(kind) for kind in (*LABELS, *LAYERS) if vocabulary.block_sizes(kind)}
        self.embedding = GrowingEmbedding(vocabulary.block_sizes("feature"), width)
        self.encoder = Bag(width, hidden, dropout)
        self.labels = nn.ModuleDict(
            {kind: LabelHead(self.encoder.message_features, sizes[kind]) for kind in LABELS if kind in sizes}
        )
        self.tags = nn.ModuleDict(
            {layer: TagHead(self.encoder.token_features, sizes[layer]) for layer in LAYERS if layer in sizes}
        )
        self.forms = GrowingEmbedding(vocabulary.block_sizes("lexical") if self.tags else (), width)
        self.feature_dropout = feature_dropout

    def forward(self, batch: Batch) -> States:
        """Logits of messages and states of their tokens."""
        tokens, messages = self._embedded(batch)
        token_states, message_states = self.encoder(tokens, messages, batch.lengths)
        return States({kind: head(message_states) for kind, head in self.label_heads().items()}, token_states)

    def label_heads(self) -> dict[str, "LabelHead"]:
        """The heads of whole messages, by kind."""
        return cast(dict[str, LabelHead], dict(self.labels.items()))

    def tag_heads(self) -> dict[str, TagHead]:
        """The heads of tokens, by layer."""
        return cast(dict[str, TagHead], dict(self.tags.items()))

    def loss(self, batch: Batch, label_smoothing: float) -> Tensor:
        """The loss of all heads, summed over messages, a scalar."""
        states = self(batch)
        logits, targets = states.logits, batch.labels
        losses = [head.loss(logits[kind], targets[kind], label_smoothing) for kind, head in self.label_heads().items()]
        for layer, head in self.tag_heads().items():
            losses.append(head.loss(states.tokens, batch.lengths, batch.tags[layer]))
        return torch.stack(losses).sum()

    def _embedded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Weighted sums of features: of tokens' forms (n, L, width), 0 behind their end, and of messages (n, width)."""
        return self._tokens(batch), self._bags(self.embedding(), *batch.messages)

    def _tokens(self, batch: Batch) -> Tensor:
        """(n, 0, width) where nothing is to be tagged."""
        table: Tensor = self.forms()
        n, length, width = len(batch.lengths), max(1, int(batch.lengths.max())), table.shape[1]
        if not self.tags:
            return table.new_zeros(n, 0, width)
        padded = table.new_zeros(n * length, width)
        return padded.index_copy(0, batch.places, self._bags(table, *batch.forms)).view(n, length, width)

    def _bags(self, table: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        if self.training and self.feature_dropout:
            weights = nn.functional.dropout(weights, self.feature_dropout)
        return nn.functional.embedding_bag(ids, table, offsets, mode="sum", per_sample_weights=weights)


class LabelHead(nn.Module):
    """Logits of the labels of whole messages, by blocks of labels, (n, in_features) to (n, sum(block_sizes)).

    In the loss a label weighs by the inverse square root of its frequency among the messages trained lately: half way
    between all messages alike, which lets rare labels drown, and all labels alike, which lets them shout.
    """

    def __init__(self, in_features: int, block_sizes: Sequence[int]) -> None:
        super().__init__()
        self.logits = GrowingLinear(in_features, block_sizes)
        self.counts = nn.Module()
        for number, size in enumerate(block_sizes):
            self.counts.register_buffer(str(number), torch.ones(size))
        with torch.no_grad():
            for block in cast(list[nn.Linear], list(self.logits.blocks)[1:]):
                block.weight.zero_()
                block.bias.fill_(UNSEEN)

    def forward(self, states: Tensor) -> Tensor:
        """The logits, in the order of the blocks."""
        logits: Tensor = self.logits(states)
        return logits

    def loss(self, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy, summed over the messages whose target is not -1."""
        weights = self._weights(targets[targets >= 0])
        return nn.functional.cross_entropy(
            logits.float(), targets, weights, ignore_index=-1, reduction="sum", label_smoothing=label_smoothing
        )

    @torch.no_grad()
    def _weights(self, targets: Tensor) -> Tensor:
        """What each label weighs, 1 in the mean over messages; the targets of a step of training are noted."""
        blocks = list(self.counts.buffers())
        counts = torch.cat(blocks)
        if self.training:
            counts = counts * FREQUENCY_DECAY + targets.bincount(minlength=len(counts))
            torch._foreach_copy_(blocks, torch.split_with_sizes(counts, [len(block) for block in blocks]))
        return counts.rsqrt() * (counts.sum() / counts.sqrt().sum())
