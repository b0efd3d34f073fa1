"""Sparse features of messages: words, pairs of words, characters within words, forms of words, regexes and lookups.

Every feature has a name ("word:transfer"), and its id is the name's place in the vocabulary. What a text weighs
depends on the text alone, never on what is known of it: else old texts would be read anew whenever words are learned.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from trainer.tasks.nlu.encoder import Encoder, Spans
from trainer.tasks.nlu.lexical import lexical_names
from trainer.tasks.nlu.matcher import Matcher
from trainer.tasks.nlu.tags import LAYERS, synonyms
from trainer.tasks.nlu.tokens import Token, tokenize
from trainer.vocabulary import Vocabulary

MAX_NGRAM = 4
MAX_WORD_CHARS = 40
"""Of longer words only the beginning has character features: they are addresses and the like."""
MAX_CACHED_WORDS = 200_000
MAX_CACHED_BYTES = 256 * 2**20
"""About what the features of texts may take that are kept; an encoder's take 768 bytes a token at width 384."""
OBJECT_BYTES = 1024
"""About what the objects of one text take beside the numbers in them."""
LENGTH_POWER = 0.35
"""A message's features are divided by this power of its number of tokens: 1 would give their mean, 0 their sum."""
EDGE = ""
"""What the first word follows and the last one precedes, in pairs."""
_DIGIT = re.compile(r"\d")
Word = tuple[np.ndarray, np.ndarray]
"""Ids and weights of the features of one token."""


class Bags(NamedTuple):
    """Features of one thing after the other: `ids` int64, `weights` float32; how many each of them has, `sizes`."""

    ids: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray


class Dense(NamedTuple):
    """What a pretrained encoder makes of one text: float16 (2 * width,) of the message, (number of tokens, width)."""

    message: np.ndarray
    tokens: np.ndarray


class Features(NamedTuple):
    """What is known of one text, as ids: of the whole message, of kind "feature", and of each token, "lexical".

    `dense` is what the encoder says of it, where there is one.
    """

    tokens: tuple[Token, ...]
    message: Bags
    forms: Bags
    dense: Dense | None = None

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory all this takes."""
        arrays = (*self.message, *self.forms, *(self.dense or ()))
        return OBJECT_BYTES * (1 + len(self.tokens) // 8) + sum(int(array.nbytes) for array in arrays)


class Featurizer:
    """Texts to features under one vocabulary. What it computed it keeps, up to a bound, by word and by text.

    Forms are looked for where there are tags in the vocabulary, or with `reads_tokens`. `encoder` adds its own.
    """

    def __init__(self, vocabulary: Vocabulary, reads_tokens: bool = False, encoder: Encoder | None = None) -> None:
        self.vocabulary, self.encoder = vocabulary, encoder
        self._words = _Table(vocabulary.ids("feature"), weighted_names)
        self._forms = _Table(vocabulary.ids("lexical"), lexical_names)
        self._reads_tokens = reads_tokens or any(vocabulary.ids(layer) for layer in LAYERS)
        self._texts: dict[str, Features] = {}
        self._num_bytes = 0

    def features(self, text: str) -> Features:
        """The features of a text; a text without any token has none."""
        return self.of([text])[0]

    def of(self, texts: Sequence[str]) -> list[Features]:
        """The features of texts; the encoder reads those together that it has not read yet."""
        found = {text: self._texts.get(text) for text in texts}
        new = {text: self._features(text) for text, known in found.items() if known is None}
        new = self._encoded(new) if self.encoder and new else new
        for text, features in new.items():
            self._keep(text, features)
        return [found[text] or new[text] for text in texts]

    def _keep(self, text: str, features: Features) -> None:
        """Keep what a text has; all that was kept is dropped when it is too much: it is only ever a matter of time."""
        size = features.nbytes + len(text)
        if self._num_bytes + size > MAX_CACHED_BYTES:
            self._texts.clear()
            self._num_bytes = 0
        self._texts[text] = features
        self._num_bytes += size

    def _encoded(self, known: Mapping[str, Features]) -> dict[str, Features]:
        """The same with what the encoder says; where no tokens are read, of messages alone."""
        assert self.encoder is not None
        read = self.encoder.encode(list(known), [self._spans_of(text) for text in known], self._spans_of)
        return {
            text: features._replace(dense=Dense(*(part.astype(np.float16) for part in one)))
            for (text, features), one in zip(known.items(), read, strict=True)
        }

    def _spans_of(self, text: str) -> Spans:
        return spans(text) if self._reads_tokens else ()

    @cached_property
    def synonyms(self) -> Mapping[str, str]:
        """The value of each surface (see `tags.synonyms`)."""
        return synonyms(self.vocabulary)

    def _features(self, text: str) -> Features:
        tokens = tokenize(text)
        marks = self._marks(text, tokens) if self._matcher.has_any else None
        message = self._message(tokens, self._words.bags(tokens, marks))
        return Features(tokens, message, self._forms.bags(*((tokens, marks) if self._reads_tokens else ((), None))))

    def _message(self, tokens: Sequence[Token], words: Bags) -> Bags:
        """The words and their pairs as one bag."""
        ids = self.vocabulary.ids("feature")
        pairs = [ids[name] for name in pair_names(tokens) if name in ids]
        weights = np.append(words.weights, np.ones(len(pairs), np.float32))
        together = np.append(words.ids, np.array(pairs, dtype=np.int64))
        return Bags(together, weights * np.float32(max(1, len(tokens)) ** -LENGTH_POWER), np.array([len(together)]))

    def _marks(self, text: str, tokens: Sequence[Token]) -> list[dict[str, None]]:
        """For each token the names of the regexes and lookup tables that match a part of it."""
        marks: list[dict[str, None]] = [{} for _ in tokens]
        for name, start, end in self._matcher.matches(text, tokens):
            for token, found in zip(tokens, marks, strict=True):
                if token.start < end and start < token.end:
                    found[name] = None
        return marks

    @cached_property
    def _matcher(self) -> "Matcher":
        return Matcher(self.vocabulary)


class _Table:
    """Words to the ids and weights of their features of one kind, kept by word."""

    def __init__(self, ids: Mapping[str, int], names: Callable[[str], Iterable[tuple[str, float]]]) -> None:
        self._ids, self._names = ids, names
        self._words: dict[str, Word] = {}

    def bags(self, tokens: Sequence[Token], marks: Sequence[Iterable[str]] | None) -> Bags:
        """The features of tokens, with what marks each of them."""
        words = [self._word(token.text) for token in tokens]
        if marks is not None:
            found = ([self._ids[name] for name in names if name in self._ids] for names in marks)
            words = [_joined(word, more) for word, more in zip(words, found, strict=True)]
        return Bags(
            ids=np.concatenate([ids for ids, _ in words]) if words else np.empty(0, np.int64),
            weights=np.concatenate([weights for _, weights in words]) if words else np.empty(0, np.float32),
            sizes=np.array([len(ids) for ids, _ in words], dtype=np.int64),
        )

    def _word(self, word: str) -> Word:
        """Ids and weights of a word's features."""
        found = self._words.get(word)
        if found is None:
            named = [(self._ids[name], weight) for name, weight in self._names(word) if name in self._ids]
            found = (np.array([i for i, _ in named], np.int64), np.array([weight for _, weight in named], np.float32))
            if len(self._words) >= MAX_CACHED_WORDS:
                self._words.clear()
            self._words[word] = found
        return found


def spans(text: str) -> Spans:
    """The places of a text's tokens, which an encoder is asked about."""
    return [(one.start, one.end) for one in tokenize(text)]


def feature_names(text: str) -> Iterator[str]:
    """The names of a text's features, but for regexes and lookup tables, which are named by the resources."""
    tokens = tokenize(text)
    for token in tokens:
        yield from (name for name, _ in weighted_names(token.text))
    yield from pair_names(tokens)


def weighted_names(word: str) -> list[tuple[str, float]]:
    """The features of a word with their weights; its n-grams together weigh as much as the word."""
    grams = char_ngrams(word)
    return [(word_name(word), 1.0), *((f"char:{gram}", len(grams) ** -0.5) for gram in grams)]


def must_recur(name: str) -> bool:
    """Whether two messages must have a feature before it counts: pairs of words, runs of 3 or more characters."""
    return name.startswith("pair:") or (name.startswith("char:") and len(name) >= len("char:") + 3)


def word_name(word: str) -> str:
    """The name of a word, in which all digits are alike."""
    return f"word:{_normal(word)}"


def char_ngrams(word: str) -> list[str]:
    """All runs of 1 to MAX_NGRAM characters of a word between two spaces, but for the lone spaces."""
    padded = f" {word.lower()[:MAX_WORD_CHARS]} "
    sizes = range(1, MAX_NGRAM + 1)
    return [
        padded[i : i + size] for size in sizes for i in range(len(padded) - size + 1) if size > 1 or padded[i] != " "
    ]


def pair_names(tokens: Sequence[Token]) -> list[str]:
    """The names of the pairs of neighbouring words, the edges of the text included."""
    words = [EDGE, *(_normal(token.text) for token in tokens), EDGE] if tokens else []
    return [f"pair:{first} {second}" for first, second in pairwise(words)]


def _normal(word: str) -> str:
    return _DIGIT.sub("0", word.lower())


def _joined(word: Word, marks: Sequence[int]) -> Word:
    """A word's features with marks, which weigh 1 each."""
    more = np.array(marks, dtype=np.int64)
    return np.concatenate([word[0], more]), np.concatenate([word[1], np.ones(len(more), np.float32)])
