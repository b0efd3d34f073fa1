"""The part of the network that tells what whole messages are: their intents and responses."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.nn.growing import GrowingLinear
from trainer.tasks.nlu.renames import ids as renamed_ids
from trainer.vocabulary import Vocabulary

UNSEEN = -4.0
"""Where the logits of a new round's labels start: none is preferred to what is known before it was trained."""

STANDS_FOR = 8
"""How many messages one that was drawn stands for at most: a few heavy ones would drown all others of their batch."""


MARGIN = 0.75
"""How far the logits of labels that were drawn are held down in training, by the logarithm of the share drawn."""


class Told(NamedTuple):
    """What there is to tell of one kind of label: of n messages, among a number of names.

    `targets`, int64 (n,), -1 where there is none; `weights`, float32 (n,), what each counts in the loss; `margins`,
    float32 (names,), what is added to the logits in training.
    """

    targets: Tensor
    weights: Tensor
    margins: Tensor


class Shares(NamedTuple):
    """Of one kind of label, what a message counts in the loss by the name that the data says (see `rebalanced`), and
    the margins, float32 (names,), in the order of the vocabulary (see `margins_of`).
    """

    weights: Mapping[str, float]
    margins: Tensor


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

    def loss(self, states: Tensor, told: Told, label_smoothing: float) -> Tensor:
        """Cross entropy, summed over the messages whose target is not -1, each counted by its weight."""
        logits = self(states).float() + told.margins
        losses = nn.functional.cross_entropy(
            logits, told.targets, ignore_index=-1, reduction="none", label_smoothing=label_smoothing
        )
        return losses.dot(told.weights)


def shares_of(counts: Mapping[str, tuple[int, int]], vocabulary: Vocabulary, has_new: bool) -> dict[str, Shares]:
    """By kind, what the loss of a round makes of each intent and of each response.

    `counts` are by full name: those of "faq/ask_x" are of the intent "faq" too; "" is none. Without new labels
    (`has_new`) there is none that could be said too often, and no margin.
    """
    intents: dict[str, tuple[int, int]] = {}
    for name, (trained, known) in counts.items():
        intent = name.partition("/")[0]
        before = intents.get(intent, (0, 0))
        intents[intent] = (before[0] + trained, before[1] + known)
    responses = {name: pair for name, pair in counts.items() if "/" in name}
    intents.pop("", None)
    kinds = {"intent": intents, "response": responses}
    return {
        kind: Shares(rebalanced(each), _in_order(margins_of(each) if has_new else {}, vocabulary, kind))
        for kind, each in kinds.items()
    }


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


def margins_of(counts: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """What is added to the logits of each label in training: 0, or less where only some of its messages were drawn.

    Without it new labels are said too often: a network that fits all it is shown draws its borders by how many
    different messages it sees of a label, whatever they weigh. What training holds down by so much comes out higher by
    it (Menon et al., "Long-tail learning via logit adjustment", 2021, equation 10).
    """
    return {name: MARGIN * math.log(max(trained / known, 1 / STANDS_FOR)) for name, (trained, known) in counts.items()}


def _in_order(margins: Mapping[str, float], vocabulary: Vocabulary, kind: str) -> Tensor:
    """Those of all names of the vocabulary, by the names of today; 0 where none is given."""
    found, ids = torch.zeros(len(vocabulary.names(kind))), renamed_ids(vocabulary, kind)
    for name in margins.keys() & ids.keys():
        found[ids[name]] = min(margins[name], float(found[ids[name]]))
    return found


@torch.no_grad()
def start_low(layer: GrowingLinear, bias: float) -> None:
    """Let the outputs of all blocks but the first start at `bias`, below those that are known."""
    for block in cast(list[nn.Linear], list(layer.blocks)[1:]):
        block.weight.zero_()
        block.bias.fill_(bias)
