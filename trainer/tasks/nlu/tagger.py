"""The part of the network that tags tokens: entities, and what role and group they have."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.nn.crf import negative_log_likelihood, viterbi
from trainer.nn.growing import GrowingLinear
from trainer.tasks.nlu.tags import BEGIN, INSIDE, LAST, OUTSIDE, TAGS_PER_NAME, UNIT, num_tags

UNSEEN = -6.0
"""Where the scores of a new name's tags start, so that old messages are read as before until the tags are learned."""
WITHIN = ((BEGIN, INSIDE), (BEGIN, LAST), (INSIDE, INSIDE), (INSIDE, LAST))
"""The transitions within a span."""
EDGE, OUT, NAMES = 0, 1, 2
"""Places in the scores of one span after another: the edge of the text, a token outside of all, and the names."""


class TagHead(nn.Module):
    """A linear layer and a linear-chain CRF over the tags of one layer (see `tags`), which grow by blocks of names.

    `block_sizes` says how many names each round brought. The parameters of a block keep name and shape when another
    follows, and until its first step a new block changes neither scores of old tags nor, as it starts low, what is
    decoded. Transitions that spell no spans are impossible. From one span, or token outside of all, to the next they
    are scored by names alone: what follows does not depend on whether a span has one token or several.
    """

    index: Tensor
    fixed: Tensor

    def __init__(self, in_features: int, block_sizes: Sequence[int]) -> None:
        super().__init__()
        tags = [TAGS_PER_NAME * size + (i == 0) for i, size in enumerate(block_sizes)]  # the first one's is outside
        self.emissions = GrowingLinear(in_features, tags)
        known = [NAMES + sum(block_sizes[:i]) for i in range(len(block_sizes))]
        pairs = list(zip(known, block_sizes, strict=True))
        self.first = nn.Parameter(torch.zeros(NAMES, NAMES))
        self.from_new = nn.ParameterList(torch.zeros(new, old + new) for old, new in pairs)
        self.to_new = nn.ParameterList(torch.zeros(old, new) for old, new in pairs)
        self.within = nn.ParameterList(torch.zeros(new, len(WITHIN)) for new in block_sizes)
        self.register_buffer("fixed", torch.tensor([0.0, -torch.inf]), persistent=False)
        self.register_buffer("index", _index(sum(block_sizes)), persistent=False)
        self._start_low()

    def _start_low(self) -> None:
        with torch.no_grad():
            for number, parameter in enumerate(self.emissions.parameters()):
                if parameter.ndim == 1:
                    parameter.fill_(UNSEEN)
                elif number:
                    parameter.zero_()
            next(bias for bias in self.emissions.parameters() if bias.ndim == 1)[OUTSIDE] = 0.0

    def loss(self, states: Tensor, lengths: Tensor, tags: Tensor) -> Tensor:
        """The negative log likelihood of `tags`, int64 (n, L), given `states` (n, L, in_features): summed, a scalar."""
        return negative_log_likelihood(self.emissions(states).float(), self.transitions(), lengths, tags).sum()

    def decode(self, states: Tensor, lengths: Tensor) -> list[list[int]]:
        """The likeliest tags of each message, as many as it has tokens."""
        paths = viterbi(self.emissions(states).float(), self.transitions(), lengths)
        return [path[:length] for path, length in zip(paths.tolist(), lengths.tolist(), strict=True)]

    def transitions(self) -> Tensor:
        """The scores of each tag after each, with the edge of the text as the last one: (tags + 1, tags + 1)."""
        scores: Tensor = self.first
        for to_new, from_new in zip(self.to_new, self.from_new, strict=True):
            scores = torch.cat([torch.cat([scores, to_new], dim=1), from_new])
        parts = [scores.flatten(), *(part.flatten() for part in self.within), self.fixed]
        return torch.cat(parts)[self.index]


def _index(num_names: int) -> Tensor:
    """Where each transition's score is among: scores of a span after a span, of those within spans, 0 and -inf."""
    columns = num_names + NAMES
    tags = torch.arange(num_tags(num_names))
    names, parts = (tags - 1) // TAGS_PER_NAME, (tags - 1) % TAGS_PER_NAME + 1
    names, parts = torch.cat([names, torch.tensor([EDGE - NAMES])]), torch.cat([parts, torch.tensor([UNIT])])
    names[OUTSIDE], parts[OUTSIDE] = OUT - NAMES, UNIT
    ends = (parts == LAST) | (parts == UNIT)
    begins = (parts == BEGIN) | (parts == UNIT)
    between = (names.unsqueeze(1) + NAMES) * columns + names + NAMES
    zero = columns * columns + len(WITHIN) * num_names
    index = torch.where(ends.unsqueeze(1) & begins, between, zero + 1)
    for number, (before, after) in enumerate(WITHIN):
        within = (parts == before).unsqueeze(1) & (parts == after) & (names.unsqueeze(1) == names)
        index = torch.where(within, columns * columns + len(WITHIN) * names + number, index)
    index[-1, -1] = zero
    return index
