"""The network of task `nlu`: features to states by an encoder, states to intents, responses and tags by heads."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.nn.growing import GrowingEmbedding
from trainer.tasks.nlu.bag import Bag
from trainer.tasks.nlu.batch import LABELS, BagTensors, Batch
from trainer.tasks.nlu.diet import Diet, SimilarityHead
from trainer.tasks.nlu.labels import LabelHead
from trainer.tasks.nlu.renames import merged
from trainer.tasks.nlu.ridge import RidgeHead
from trainer.tasks.nlu.tagger import TagHead
from trainer.tasks.nlu.tags import LAYERS
from trainer.vocabulary import Vocabulary

MESSAGE_GAIN, TOKEN_GAIN = 2.5, 6.0
"""The length that an encoder's features have beside the states of a bag: how fast is learned from them."""
UNKNOWN = 0.8
"""How often a token is trained on as if its word were unknown where only one message had it, as are the words of most
messages to come that are worth a tag: words seen once stand for those not seen (Good, "The Population Frequencies of
Species", 1953; Lample et al., "Neural Architectures for Named Entity Recognition", 2016, section 4.3). Not always, or
they would never be learned. On parts of Financial-demo's training data, split anew, token F1 was 0.917 without it,
0.924 with 0.5, 0.926 to 0.931 from 0.8 to 1.
"""


class States(NamedTuple):
    """What the network makes of a batch: logits (n, names) by kind, and states of tokens (n, L, features)."""

    logits: Mapping[str, Tensor]
    tokens: Tensor


class Net(nn.Module):
    """All of it, for a vocabulary: what grows has parameters by block, and a kind without names has none."""

    rare: Tensor

    def __init__(
        self,
        vocabulary: Vocabulary,
        encoder: Bag | Diet,
        *,
        width: int,
        feature_dropout: float,
        dense_widths: tuple[int, int] = (0, 0),
    ) -> None:
        """`dense_widths`: how wide the features of a pretrained encoder are, of messages and of tokens; 0 without one.

        A transformer reads them with the others. Beside a bag they go straight to the heads, as a linear model would
        have them: through its small layers they did worse, on the test splits of Financial-demo. And what a ridge
        regression on them says of intents is added.
        """
        super().__init__()
        sizes = {kind: vocabulary.block_sizes(kind) for kind in (*LABELS, *LAYERS) if vocabulary.block_sizes(kind)}
        self.embedding = GrowingEmbedding(vocabulary.block_sizes("feature"), width)
        self.encoder, self.is_diet = encoder, isinstance(encoder, Diet)
        head = SimilarityHead if self.is_diet else LabelHead
        beside = (0, 0) if self.is_diet else dense_widths
        self.labels = nn.ModuleDict(
            {kind: head(encoder.message_features + beside[0], sizes[kind]) for kind in LABELS if kind in sizes}
        )
        self.tags = nn.ModuleDict(
            {layer: TagHead(encoder.token_features + beside[1], sizes[layer]) for layer in LAYERS if layer in sizes}
        )
        has_ridge = beside[0] and "intent" in sizes
        self.ridge = RidgeHead(beside[0], sizes["intent"], merged(vocabulary, "intent")) if has_ridge else None
        forms = vocabulary.block_sizes("lexical") if self.tags or self.is_diet else ()
        self.forms = GrowingEmbedding(forms, encoder.token_width)
        self.register_buffer("rare", _which(vocabulary.names("lexical"), vocabulary.ids("rare")), persistent=False)
        reads = self.is_diet and any(dense_widths)
        self.dense = nn.Linear(dense_widths[0], width) if reads else None
        self.dense_tokens = nn.Linear(dense_widths[1], encoder.token_width) if reads else None
        self.feature_dropout = feature_dropout

    def forward(self, batch: Batch) -> States:
        """Logits of messages and states of their tokens."""
        token_states, message_states = self._states(batch)
        logits = {kind: head(message_states) for kind, head in self.label_heads().items()}
        if self.ridge is not None:
            logits["intent"] = logits["intent"] + self.ridge(batch.dense)
        return States(logits, token_states)

    def take_in(self, batch: Batch) -> None:
        """Add messages that are new, once each, to what the ridge regression is solved from."""
        if self.ridge is not None:
            self.ridge.take_in(batch.dense, batch.labels["intent"].targets)

    def label_heads(self) -> dict[str, LabelHead | SimilarityHead]:
        """The heads of whole messages, by kind."""
        return cast(dict[str, LabelHead | SimilarityHead], dict(self.labels.items()))

    def tag_heads(self) -> dict[str, TagHead]:
        """The heads of tokens, by layer."""
        return cast(dict[str, TagHead], dict(self.tags.items()))

    def loss(self, batch: Batch, label_smoothing: float) -> Tensor:
        """The loss of all heads, summed over messages, a scalar."""
        token_states, message_states = self._states(batch)
        losses = [
            head.loss(message_states, batch.labels[kind], label_smoothing) for kind, head in self.label_heads().items()
        ]
        for layer, head in self.tag_heads().items():
            losses.append(head.loss(token_states, batch.lengths, batch.tags[layer]))
        return torch.stack(losses).sum()

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the encoder makes of tokens and messages, and what a pretrained one says beside it."""
        tokens, messages = self._tokens(batch), self._messages(batch)
        if self.is_diet:
            states: tuple[Tensor, Tensor] = self.encoder(self._placed(tokens, batch), messages, batch.lengths)
            return states
        tokens, messages = self.encoder(tokens, messages, batch.lengths)
        if batch.dense.shape[1]:
            messages = torch.cat([messages, batch.dense * MESSAGE_GAIN], dim=1)
            tokens = torch.cat([tokens, batch.dense_tokens * TOKEN_GAIN], dim=1) if self.tags else tokens
        return self._placed(tokens, batch) if self.tags else tokens, messages

    def _messages(self, batch: Batch) -> Tensor:
        """Weighted sums of messages' features, (n, width)."""
        messages = self._bags(self.embedding(), *batch.messages)
        return messages if self.dense is None else messages + self.dense(_about_one(batch.dense))

    def _tokens(self, batch: Batch) -> Tensor:
        """Those of tokens' forms, (N, width); (0, width) where nothing is read token by token."""
        table: Tensor = self.forms()
        if not (self.tags or self.is_diet):
            return table.new_zeros(0, table.shape[1])
        forms = self._some_unknown(batch.forms) if self.training and not self.is_diet else batch.forms
        tokens = self._bags(table, *forms)
        return tokens if self.dense_tokens is None else tokens + self.dense_tokens(_about_one(batch.dense_tokens))

    def _some_unknown(self, forms: BagTensors) -> BagTensors:
        """The same, without what tells the words of some tokens that are rare."""
        ends = torch.cat([forms.offsets[1:], forms.offsets.new_tensor([len(forms.ids)])])
        unknown = torch.rand(len(ends), device=ends.device) < UNKNOWN
        of_unknown = unknown.repeat_interleave(ends - forms.offsets, output_size=len(forms.ids))
        dropped = of_unknown & self.rare[forms.ids]
        return forms._replace(weights=forms.weights.masked_fill(dropped, 0.0))

    def _placed(self, rows: Tensor, batch: Batch) -> Tensor:
        """The tokens' rows, (N, width), by message: (n, L, width), 0 behind their end."""
        n, length = len(batch.lengths), max([1, *batch.lengths.tolist()])
        places = rows.new_zeros(n * length, rows.shape[1]).index_copy(0, batch.places, rows)
        return places.view(n, length, rows.shape[1])

    def _bags(self, table: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        if self.training and self.feature_dropout:
            weights = nn.functional.dropout(weights, self.feature_dropout)
        return nn.functional.embedding_bag(ids, table, offsets, mode="sum", per_sample_weights=weights)


def _which(names: Sequence[str], chosen: Collection[str]) -> Tensor:
    """Which of the names are chosen, bool (number of names,)."""
    return torch.tensor([name in chosen for name in names], dtype=torch.bool)


def _about_one(rows: Tensor) -> Tensor:
    """Rows of length 1 with numbers about 1 in size."""
    return rows * math.sqrt(rows.shape[1])
