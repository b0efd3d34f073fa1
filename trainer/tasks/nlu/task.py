"""Task `nlu`: intents, entities with roles and groups, and responses of messages, learned together.

Shards are Rasa's NLU YAML, JSON lines or CSV (see `reading`). Features, labels and tags grow by name from round to
round, and the network by blocks (see `net`).
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from trainer.device import to_device
from trainer.ledger import Round
from trainer.settings import setting
from trainer.task import Scores, Task
from trainer.tasks.nlu import stands_for
from trainer.tasks.nlu.answers import predictions
from trainer.tasks.nlu.bag import Bag
from trainer.tasks.nlu.batch import LABELS, Collated, collated
from trainer.tasks.nlu.brings import check_learnable, names_of, warn_of_lone_intent, warn_of_no_answers
from trainer.tasks.nlu.diet import Diet
from trainer.tasks.nlu.encoder import Encoder, Waiting
from trainer.tasks.nlu.encoder_files import EncoderSettings
from trainer.tasks.nlu.features import Featurizer, must_recur, spans, word_name
from trainer.tasks.nlu.labels import Shares, shares_of
from trainer.tasks.nlu.lexical import tells_word
from trainer.tasks.nlu.messages import Message, Resource
from trainer.tasks.nlu.net import Net
from trainer.tasks.nlu.reading import SUFFIXES, Messages, read
from trainer.tasks.nlu.renames import applied, asked_for, current, not_held, parse
from trainer.tasks.nlu.replies import Reply, answer_texts, message_of, reply
from trainer.tasks.nlu.scores import Prediction, scores
from trainer.tasks.nlu.tags import LAYERS, synonyms
from trainer.tasks.nlu.tokens import tokenize
from trainer.vocabulary import Vocabulary

_LOG = logging.getLogger(__name__)


MAX_WAITING, MAX_WAITING_CHARS = 100_000, 500
"""How many texts may wait to be encoded, and how long they may be: longer ones share a batch with none."""
ENCODED_AHEAD = 2048
"""How many messages are encoded at a time before a round: some seconds' work, between which a stop is heeded."""

TAKEN_IN_AT_ONCE = 256
"""How many messages a ridge regression adds to its sums with one product of matrices."""


OF_TOKENS = ("forms.", "encoder.window.", "tags.")
"""What the names of parameters begin with that a bag tells entities by. Their gradients are near 0 for most batches of
a later round and large for some, whose steps would then leave out what tells intents. On parts of training data that
were split anew, clipping them apart gave Financial-demo 0.004 more of token F1 (96 splits; intents -0.001, standard
error 0.002), and six other sets 0.011 more of intent F1 (21 splits; entities the same). An entity type that a later
round brings had 0.023 less of F1 (48 rounds, standard error 0.014), as what tells entities moves less then."""
SMALL_BAG = 2**20
"""Networks of fewer parameters are trained by one thread. Of 0.36 million (233 messages) steps take a fifth less time
than with two, of 2.4 million (10,003 messages) a third more."""


class NluSettings(EncoderSettings):
    """Settings of task `nlu`."""

    architecture: Literal["bag", "diet"] = Field(
        "bag", description="bag: sums of features through one hidden layer; diet: a transformer over the tokens"
    )
    width: int = Field(128, ge=1, le=4096, description="size of a feature's embedding")
    hidden: int = Field(128, ge=1, le=4096, description="units of the hidden layer, or of the transformer")
    token_width: int = Field(64, ge=1, le=4096, description="bag: size of the embeddings that entities are told by")
    layers: int = Field(2, ge=1, le=48, description="diet: layers of the transformer")
    heads: int = Field(4, ge=1, le=64, description="diet: heads of its attention")
    feature_dropout: float = Field(0.2, ge=0, lt=1, description="share of a message's features dropped in training")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of the last states dropped in training")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share of the target spread over all labels")
    max_text_chars: int = Field(10_000, ge=1, description="longer messages are bad examples")
    rename: str = setting(
        "", 'intents to rename, or to merge into another one, from the next round on: "old=new,entity:old=new"',
        when="now", group="task",
    )  # fmt: skip

    @field_validator("rename")
    @classmethod
    def _renames(cls, text: str) -> str:
        parse(text)
        return text

    @model_validator(mode="after")
    def _heads_share(self) -> "NluSettings":
        if self.architecture == "diet" and self.hidden % (2 * self.heads):
            raise ValueError(f"hidden must be a multiple of twice the number of heads, {2 * self.heads}")
        return self


class NLU(Task):
    """Understanding of messages; see the module's text."""

    Settings = NluSettings
    settings: NluSettings
    suffixes = SUFFIXES
    best_metric = "intent_f1_weighted"
    label_kinds = LABELS
    scores_unknown_labels = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "epochs": 16, "learning_rate": 0.01, "min_epoch_steps": 12,
        "epoch_fraction": 0.125, "learning_rate_fraction": 0.5, "batch_size_fraction": 0.5, "min_round_steps": 64,
        "new_label_epochs": 1, "replay": 2.0, "min_replay": 5,
    }  # fmt: skip
    """As measured on parts of the training data of Financial-demo and Banking77, split anew: entities need more steps
    than intents do, and a later round forgets least at half the rate in batches of half the size, with many different
    old messages seen twice, or three times where intents are new: those take longer than to learn more of known ones.
    """
    with_encoder: ClassVar[Mapping[str, Any]] = {
        "epochs": 8, "batch_size": 64, "min_epoch_steps": 24, "batch_size_fraction": 0.125, "replay": 1.4,
    }  # fmt: skip
    """What differs beside a pretrained encoder, whose features say at once what words say only once they are learned:
    twice the epochs were worse, on parts of Banking77's training data, and batches twice as large as good in half the
    time. As the first round visits less, a later one may too: it has fewer old messages, but smaller batches.
    """
    with_ridge: ClassVar[Mapping[str, Any]] = {
        "learning_rate_fraction": 0.4, "replay": 0.2, "min_replay": 1, "new_label_replay": 4.5, "new_label_epochs": 0,
    }  # fmt: skip
    """And where a ridge regression stands beside the network: what a later round brings it knows at once, and forgets
    nothing. So the network goes on at less of the rate, and sees few old messages (more where labels are new, which it
    would otherwise say too often), in one epoch, or as many as `min_round_steps` takes. On thirty parts of
    Financial-demo's training data, each held out anew, F1 of intents was 0.935 with half as many again and 0.933 so,
    that of tokens 0.960 and 0.958: 0.002 less each, with standard errors of 0.002 and 0.003.
    """
    _featurizer = Featurizer(Vocabulary())
    _shared: tuple[Round | None, Vocabulary | None, Mapping[str, Shares]] = (None, None, {})

    def preferred(self) -> Mapping[str, Any]:
        """`defaults`, with those that go with an encoder, and a ridge regression on it, where there are such."""
        if not self.settings.encoder:
            return self.defaults
        return {
            **self.defaults,
            **self.with_encoder,
            **(self.with_ridge if self.settings.architecture == "bag" else {}),
        }

    def read(self, path: Path) -> Messages:
        """The messages of a shard; DataError when it is none, NotAShard for YAML of another kind."""
        messages = read(path, self.settings.max_text_chars, self.max_shard_bytes)
        if self.settings.encoder:
            self._to_encode.extend(text for text in messages.texts if len(text) <= MAX_WAITING_CHARS)
        return messages

    def label(self, example: Message) -> str | None:
        """The full name: the response's where there is one, else the intent."""
        return example.response_key or example.intent

    def label_today(self, vocabulary: Vocabulary, label: str) -> str:
        """The label by the renamings that the vocabulary remembers and those that the settings ask for."""
        return asked_for(vocabulary, parse(self.settings.rename), "response" if "/" in label else "intent", label)

    def waits(self, vocabulary: Vocabulary) -> str | None:
        """Which renamings the settings ask for and the vocabulary does not hold; SettingError where one cannot be."""
        if pending := not_held(vocabulary, parse(self.settings.rename)):
            names = ", ".join(f"{one.old}={one.new}" for one in pending)
            return f"--set rename={names}: waits for the next round, which one new example starts"
        return None

    def key(self, example: Message) -> str:
        """The whole message with its annotations."""
        return repr(tuple(example))

    def grow(self, vocabulary: Vocabulary, labels: Iterable[str], examples: Iterable[Message | Resource]) -> Vocabulary:
        """The vocabulary with the names that messages and resources bring; DataError where nothing can be learned.

        Pairs of words and long runs of characters enter when two messages of a round have them: what one alone has
        tells nothing that its words do not, and is half of all. Of words and their ends it is remembered that only one
        message of their first round had them, as names of kind "rare": see `Net`.
        """
        examples = self._encoding(examples, vocabulary) if self.settings.encoder and self.cache_directory else examples
        counts = Counter(pair for example in examples for pair in set(names_of(example)))
        names: dict[str, set[str]] = {}
        for (kind, name), num in counts.items():
            if num > 1 or kind != "feature" or not must_recur(name):
                names.setdefault(kind, set()).add(name)
        of_words = {name for name in names.get("lexical", ()) if tells_word(name) and counts["lexical", name] == 1}
        names["rare"] = of_words - vocabulary.ids("lexical").keys()
        vocabulary = applied(vocabulary, parse(self.settings.rename), names)
        for kind, served, fold in (("synonym", synonyms, str.casefold), ("answer", answer_texts, str)):
            said = stands_for.brought(vocabulary, kind, names.pop(kind, ()), served(vocabulary), fold)
            names |= {kind: said} if said else {}
        for kind in sorted(names):
            vocabulary = vocabulary.add(kind, {current(vocabulary, kind, name) for name in names[kind]})
        check_learnable(vocabulary)
        warn_of_lone_intent(vocabulary)
        warn_of_no_answers(vocabulary, names.get("response", set()))
        return vocabulary

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        """The network, with a block of parameters for every round that brought names."""
        own = self.settings
        encoder: Bag | Diet
        if own.architecture == "diet":
            encoder = Diet(own.width, own.hidden, own.layers, own.heads, own.dropout)
        else:
            encoder = Bag(own.width, own.hidden, own.token_width, own.dropout)
        dense_widths = self._pretrained.widths if self._pretrained else (0, 0)
        return Net(vocabulary, encoder, width=own.width, feature_dropout=own.feature_dropout, dense_widths=dense_widths)

    def begin_round(self, net: nn.Module, vocabulary: Vocabulary, examples: Iterable[Message]) -> None:
        """Have the network take in the new messages beside its steps, where a pretrained encoder says something."""
        assert isinstance(net, Net)
        if net.ridge is None:
            return
        left, device = iter(examples), net.ridge.products.device
        while some := list(islice(left, TAKEN_IN_AT_ONCE)):
            net.take_in(to_device(self.collate(some, vocabulary, None), device).inputs)

    def collate(self, examples: Sequence[Message], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Collated:
        """Features and targets of messages; a name that is not in the vocabulary is no target."""
        return collated(examples, self._features(vocabulary), self._shares(vocabulary))

    def loss(self, net: nn.Module, batch: Collated) -> Tensor:
        """The loss of all heads, summed over messages."""
        assert isinstance(net, Net)
        return net.loss(batch.inputs, self.settings.label_smoothing)

    def predict(self, net: nn.Module, batch: Collated) -> list[Prediction]:
        """What the network says of each message, beside the truth."""
        assert isinstance(net, Net)
        return predictions(net, batch)

    def question(self, request: Mapping[str, Any]) -> Message:
        """The message in `text`."""
        return message_of(request, self.settings.max_text_chars)

    def answers(self, net: nn.Module, examples: Sequence[Message], vocabulary: Vocabulary) -> list[Reply]:
        """See `replies.reply`."""
        batch, texts = self.collate(examples, vocabulary, None), answer_texts(vocabulary)
        device = next(net.parameters()).device
        return [reply(one, texts) for one in self.predict(net, to_device(batch, device))]

    def scores(self, predictions: Sequence[Prediction], vocabulary: Vocabulary) -> Scores:
        """See `scores.scores`."""
        return scores(predictions)

    def num_threads(self, net: nn.Module) -> int:
        """One for a small bag: its steps are hundreds of operations that take less time than two threads take to meet.

        Beside other work on the machine, which keeps one of them waiting, a step of both may take a hundred times as
        long.
        """
        is_small = sum(parameter.numel() for parameter in net.parameters()) < SMALL_BAG
        return 1 if is_small and self.settings.architecture == "bag" and not self.settings.encoder else 0

    def clipped_apart(self, net: nn.Module) -> tuple[str, ...]:
        """What tells entities, where there are any; a transformer's states tell messages too. Measured were rounds of
        known intents and no encoder: of new intents, a few messages are learned with all of the norm, as before. All
        are new to the first round after `--init_from`.
        """
        assert isinstance(net, Net)
        brings_labels = self.round is not None and self.round.labels
        as_before = net.is_diet or self.settings.encoder or brings_labels
        return OF_TOKENS if net.tags and not as_before else ()

    def right(self, prediction: Prediction) -> bool | None:
        """Whether intent and response are; None where no intent is annotated."""
        truth = prediction.message
        if truth.intent is None:
            return None
        return (prediction.intent, prediction.response_key) == (truth.intent, truth.response_key)

    def oov_rate(self, vocabulary: Vocabulary, examples: Iterable[Message]) -> float | None:
        """The share of words, each as often as it occurs, that no earlier message had."""
        known = vocabulary.ids("feature")
        missing = [word_name(token.text) not in known for example in examples for token in tokenize(example.text)]
        return sum(missing) / len(missing) if missing else None

    def _shares(self, vocabulary: Vocabulary) -> Mapping[str, Shares]:
        """What the loss makes of the labels of the round, by kind."""
        round, known, shares = self._shared
        if round is not self.round or known is not vocabulary:
            counts, labels = (self.round.label_counts(), self.round.labels) if self.round else ({}, ())
            shares = shares_of(counts, vocabulary, has_new=bool(labels))
            self._shared = (self.round, vocabulary, shares)
        return shares

    def _encoding(self, examples: Iterable[Message | Resource], vocabulary: Vocabulary) -> Iterator[Message | Resource]:
        """The same, while the encoder reads the messages ahead: many at a time, and nothing trains beside it."""
        reads_tokens = self.settings.architecture == "diet" or any(vocabulary.ids(layer) for layer in LAYERS)
        left = iter(examples)
        while some := list(islice(left, ENCODED_AHEAD)):
            messages = [one for one in some if isinstance(one, Message)]
            reads_tokens = reads_tokens or any(one.entities for one in messages)
            assert self._pretrained is not None
            texts = list({one.text: None for one in messages})
            self._pretrained.encode(texts, [spans(text) if reads_tokens else () for text in texts])
            yield from some

    @cached_property
    def _to_encode(self) -> Waiting:
        """Texts that were read and will be encoded when there is room."""
        return Waiting(maxlen=MAX_WAITING)

    @cached_property
    def _pretrained(self) -> Encoder | None:
        """The encoder of the settings, which is the same for the whole folder."""
        own = self.settings
        if not own.encoder:
            return None
        return Encoder(own.encoder, self.cache_directory, self._to_encode, int(own.encoder_cache_bytes))

    def _features(self, vocabulary: Vocabulary) -> Featurizer:
        """The features under a vocabulary, with what was computed of them before."""
        if self._featurizer.vocabulary is not vocabulary:
            reads_tokens = self.settings.architecture == "diet"
            self._featurizer = Featurizer(vocabulary, reads_tokens, self._pretrained)
        return self._featurizer
