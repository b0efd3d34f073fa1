"""The part of the network that tells what whole messages are: their intents and responses."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainer.nn.growing import GrowingLinear

UNSEEN = -4.0
"""Where the logits of a new round's labels start: none is preferred to what is known before it was trained."""
FREQUENCY_DECAY = 0.99
"""What is left, after a step, of the weight that earlier messages have in the frequencies of labels."""


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
        start_low(self.logits, UNSEEN)

    def forward(self, states: Tensor) -> Tensor:
        """The logits, in the order of the blocks."""
        logits: Tensor = self.logits(states)
        return logits

    def loss(self, states: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy, summed over the messages whose target is not -1."""
        weights = self._weights(targets[targets >= 0])
        losses = nn.functional.cross_entropy(
            self(states).float(), targets, ignore_index=-1, reduction="none", label_smoothing=label_smoothing
        )
        return (losses * weights[targets.clamp(min=0)]).sum()

    @torch.no_grad()
    def _weights(self, targets: Tensor) -> Tensor:
        """What each label weighs, 1 in the mean over messages; the targets of a step of training are noted."""
        blocks = list(self.counts.buffers())
        counts = torch.cat(blocks)
        if self.training:
            counts = counts * FREQUENCY_DECAY + targets.bincount(minlength=len(counts))
            torch._foreach_copy_(blocks, torch.split_with_sizes(counts, [len(block) for block in blocks]))
        seen = counts.clamp(min=1)  # a label that vanished from the data must not weigh ever more
        return seen.rsqrt() * (seen.sum() / seen.sqrt().sum())


@torch.no_grad()
def start_low(layer: GrowingLinear, bias: float) -> None:
    """Let the outputs of all blocks but the first start at `bias`, below those that are known."""
    for block in cast(list[nn.Linear], list(layer.blocks)[1:]):
        block.weight.zero_()
        block.bias.fill_(bias)
