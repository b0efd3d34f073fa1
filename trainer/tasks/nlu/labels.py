"""The part of the network that tells what whole messages are: their intents and responses."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainer.nn.growing import GrowingLinear

UNSEEN = -4.0
"""Where the logits of a new round's labels start: none is preferred to what is known before it was trained."""

STANDS_FOR = 8
"""How many messages one that was drawn stands for at most: a few heavy ones would drown all others of their batch."""


class LabelHead(nn.Module):
    """Logits of the labels of whole messages, by blocks of labels, (n, in_features) to (n, sum(block_sizes))."""

    def __init__(self, in_features: int, block_sizes: Sequence[int]) -> None:
        super().__init__()
        self.logits = GrowingLinear(in_features, block_sizes)
        start_low(self.logits, UNSEEN)

    def forward(self, states: Tensor) -> Tensor:
        """The logits, in the order of the blocks."""
        logits: Tensor = self.logits(states)
        return logits

    def loss(self, states: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy, summed over the messages whose target is not -1, each counted by its weight."""
        losses = nn.functional.cross_entropy(
            self(states).float(), targets, ignore_index=-1, reduction="none", label_smoothing=label_smoothing
        )
        return losses.dot(weights)


def weights_of(counts: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, float]]:
    """By kind, what a message of each intent and of each response counts (see `rebalanced`).

    `counts` are by full name: those of "faq/ask_x" are of the intent "faq" too; "" is none.
    """
    intents: dict[str, tuple[int, int]] = {}
    for name, (trained, known) in counts.items():
        intent = name.partition("/")[0]
        before = intents.get(intent, (0, 0))
        intents[intent] = (before[0] + trained, before[1] + known)
    responses = {name: pair for name, pair in counts.items() if "/" in name}
    intents.pop("", None)
    return {"intent": rebalanced(intents), "response": rebalanced(responses)}


def rebalanced(counts: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """What a message of each label counts in the loss, 1 in the mean over those trained.

    `counts`: how many messages of it the round trains, and how many there are. Old ones that were drawn stand for all:
    so the loss of a round is an estimate of that on everything. There a message counts as the inverse square root of
    the number of its label, half way between all messages alike, which lets rare labels drown, and all labels alike,
    which lets them shout.

    The numbers are known before the round's first step: the loss of a step does not depend on the steps before it, nor
    on how it is cut into micro-batches.
    """
    shares = {name: min(known, STANDS_FOR * trained) ** 0.5 for name, (trained, known) in counts.items()}
    scale = sum(trained for trained, _ in counts.values()) / max(1.0, sum(shares.values()))
    return {name: scale * shares[name] / trained for name, (trained, _) in counts.items()}


@torch.no_grad()
def start_low(layer: GrowingLinear, bias: float) -> None:
    """Let the outputs of all blocks but the first start at `bias`, below those that are known."""
    for block in cast(list[nn.Linear], list(layer.blocks)[1:]):
        block.weight.zero_()
        block.bias.fill_(bias)
