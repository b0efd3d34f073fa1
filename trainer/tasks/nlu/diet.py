"""DIET, the reference: a transformer over a message's tokens and the message itself, and labels by similarity.

Bunk, Varshneya, Vlasov and Nichol, "DIET: Lightweight Language Understanding for Dialogue Systems", 2020,
https://arxiv.org/abs/2004.09936. The similarity is that of Wu et al., "StarSpace: Embed All The Things!", 2018.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, gelu

from trainer.nn.growing import GrowingLinear
from trainer.nn.transformer import Transformer
from trainer.tasks.nlu.labels import Told, start_low

CONNECTION_DENSITY = 0.2
MAX_PLACES = 8192
"""How many places the transformer sees at a time, if not of one message: a place takes about 16 kB in training."""
EMBEDDING_WIDTH = 20
"""Of messages and labels where they are compared."""
NUM_NEGATIVES = 20
UNSEEN = -1.0
"""Where the similarities of a new round's labels start: below what a known label has that fits."""


class Diet(nn.Module):
    """States of messages and of their tokens, both `hidden` wide. The message stands behind its last token."""

    def __init__(self, width: int, hidden: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.reduce = SparselyConnected(width, hidden)
        self.transformer = Transformer(hidden, num_layers, num_heads, dropout)
        self.token_width, self.message_features, self.token_features = width, hidden, hidden
        self.dropout = dropout

    def forward(self, tokens: Tensor, messages: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (n, L, width), zero behind their end, and messages (n, width) to states, as wide as `hidden`."""
        rows = torch.arange(len(lengths), device=lengths.device)
        places = nn.functional.pad(tokens, (0, 0, 0, 1))
        places[rows, lengths] = messages
        groups = _groups(lengths)
        if len(groups) == 1:
            states = self._encoded(places, lengths)
        else:
            states = places.new_zeros(*places.shape[:2], self.message_features)
            for group, longest in groups:
                found = self._encoded(places[group, : longest + 1], lengths[group])
                states[group, : longest + 1] = found.to(states.dtype)  # autocast's may be another
        return states[:, :-1], states[rows, lengths]

    def _encoded(self, places: Tensor, lengths: Tensor) -> Tensor:
        reduced = self.reduce(dropout(places, self.dropout, self.training))
        return gelu(self.transformer(reduced, lengths + 1))


def _groups(lengths: Tensor) -> list[tuple[Tensor, int]]:
    """Messages of about one length together, by their rows, and how long the longest of each group is.

    One of thousands of tokens would otherwise make all others of its batch as long. A small batch is one group.
    """
    longest = int(lengths.max()) if len(lengths) else 0
    if len(lengths) * (longest + 1) <= MAX_PLACES:
        return [(torch.arange(len(lengths), device=lengths.device), longest)]
    order = lengths.argsort(stable=True)
    sizes = lengths[order].tolist()
    edges = [0]
    for place, size in enumerate(sizes):
        if place > edges[-1] and (place + 1 - edges[-1]) * (size + 1) > MAX_PLACES:
            edges.append(place)
    return [(order[start:end], sizes[end - 1]) for start, end in pairwise([*edges, len(sizes)])]


class SparselyConnected(nn.Linear):
    """A linear layer most of whose connections were cut at random, once; every input and every output keeps some."""

    mask: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        mask = torch.rand(out_features, in_features) < CONNECTION_DENSITY
        longest = torch.arange(max(in_features, out_features))
        mask[longest % out_features, longest % in_features] = True
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


class SimilarityHead(nn.Module):
    """Labels of messages by the inner product of their embeddings: (n, in_features) to (n, sum(block_sizes)).

    The loss compares each message's similarity to its label with those of random pairs that do not belong together:
    message and other label, label and other message, two messages, two labels. A label's embedding is a row of the
    growing layer; its bias lets new labels start below the known ones.
    """

    def __init__(self, in_features: int, block_sizes: Sequence[int]) -> None:
        super().__init__()
        self.embed = nn.Linear(in_features, EMBEDDING_WIDTH)
        self.labels = GrowingLinear(EMBEDDING_WIDTH, block_sizes)
        start_low(self.labels, UNSEEN)

    def forward(self, states: Tensor) -> Tensor:
        """The similarities to all labels, in the order of the blocks."""
        similarities: Tensor = self.labels(self.embed(states))
        return similarities

    def loss(self, states: Tensor, told: Told, label_smoothing: float) -> Tensor:
        """Cross entropy of the right pair among the wrong ones, summed over the messages whose target is not -1.

        Each is counted by its weight.
        """
        is_told = told.targets >= 0
        states, targets, weights = states[is_told], told.targets[is_told], told.weights[is_told]
        if not len(targets):
            return states.sum() * 0.0
        messages, (labels, biases) = self.embed(states).float(), self.labels.rows()
        biases = biases + told.margins
        wrong = torch.randint(len(labels), (len(targets), NUM_NEGATIVES), device=targets.device)
        others = torch.randint(len(targets), wrong.shape, device=targets.device)
        own = labels[targets]
        right = (messages * own).sum(dim=1, keepdim=True) + biases[targets].unsqueeze(1)
        groups = (
            (_products(messages, labels[wrong]) + biases[wrong], wrong),
            (_products(own, messages[others]) + biases[targets].unsqueeze(1), targets[others]),
            (_products(messages, messages[others]), targets[others]),
            (_products(own, labels[wrong]), wrong),
        )
        false = [pairs.masked_fill(found == targets.unsqueeze(1), -torch.inf) for pairs, found in groups]
        first = torch.zeros_like(targets)
        return cross_entropy(torch.cat([right, *false], dim=1), first, reduction="none").dot(weights)


def _products(one: Tensor, others: Tensor) -> Tensor:
    """Inner products of (n, width) with (n, k, width): (n, k)."""
    return torch.einsum("nw,nkw->nk", one, others)
