"""Frozen features of a pretrained encoder: of whole messages and of the words in them.

Sentences are the means over all tokens, of length 1, as in Reimers and Gurevych, 2019,
https://arxiv.org/abs/1908.10084: of the last layer, and beside it of the middle one, which still tells what was said
while the last one turns to what was meant. Intents need both: on parts of the training data of Financial-demo and
Banking77, split anew, accuracy was 0.941 and 0.930 with both, 0.928 and 0.922 with the last layer alone. Words are
taken from the middle layer: what a token is transfers best from there (Liu et al., "Linguistic Knowledge and
Transferability of Contextual Representations", 2019).
"""

import hashlib
import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from trainer.errors import SettingError
from trainer.nn.bert import Bert, BertSizes
from trainer.tasks.nlu.encoder_files import (
    CACHE_BYTES,
    TOKENIZER,
    WEIGHTS,
    encoder_config,
    encoder_digest,
    encoder_folder,
)
from trainer.tasks.nlu.feature_cache import FeatureCache

Spans = Sequence[tuple[int, int]]
Waiting = deque[str]
MAX_ROWS, MAX_BATCH_TOKENS, LENGTH_STEP = 32, 1024, 8
WAITING_CHUNK, MAX_AT_HAND = 256, 4096
"""How many waiting texts are cut into tokens at a time, and about how many are held like that."""
NUM_SENTENCE_ROWS = 2
"""The sentence in the last layer and in the middle one."""
_FORM = b"3"
"""Which features these are: what was kept of others, by an earlier version, must not be taken for them."""
_SURROGATES = re.compile("[\ud800-\udfff]")


class Features(NamedTuple):
    """One text: `sentence`, float32 of shape (2 * width,), of the last layer and then of the middle one, and `tokens`,
    float32 of shape (number of spans, width).
    """

    sentence: np.ndarray
    tokens: np.ndarray


class _Asked(NamedTuple):
    """A text, its spans, and the key of what is asked of them."""

    key: bytes
    text: str
    spans: Spans


class _Text(NamedTuple):
    """A text as the network takes it: ids of its tokens, and the characters each of them stands for."""

    asked: _Asked
    ids: Sequence[int]
    offsets: np.ndarray


class Encoder:
    """Texts to features: a function of the text alone, computed once and kept below `cache_directory`.

    A matrix product rounds alike only for matrices of the same size. So that a text has the same features, bit for
    bit, whatever stands beside it and whichever attempt computes it, batches have few fixed sizes, and rows that lack
    are filled up, with texts that `wait` where there are some. Where nothing is kept (`cache_directory` None: serving),
    that is spared. The numbers are bfloat16 where the processor has units for them, float32 elsewhere.
    """

    def __init__(
        self,
        source: str,
        cache_directory: Path | None = None,
        waiting: Waiting | None = None,
        max_cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """`source`: a folder or an installed package. SettingError where it is none, or no encoder that can be used.

        `waiting`: texts that will be asked for; any thread may add some.
        """
        self.source, self.digest, self._format = source, encoder_digest(source), _number_format()
        folder = encoder_folder(source)
        try:
            sizes = BertSizes.of(encoder_config(source))
            self._net = Bert.of(sizes, safetensors.torch.load_file(folder / WEIGHTS)).to(self._format)
        except (ValueError, OSError, SafetensorError) as error:
            raise SettingError(f"--set encoder={source}: {error}") from error
        self.widths, self._max_length = (2 * sizes.width, sizes.width), sizes.num_positions
        self._tokenizer = _tokenizer(source, folder / TOKENIZER, sizes)
        self._cache = FeatureCache(cache_directory / "encoder", max_cache_bytes) if cache_directory else None
        self._lock = threading.Lock()
        self._waiting = waiting if waiting is not None else Waiting(maxlen=0)
        self._at_hand: dict[int, list[_Text]] = {}

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """float32 of shape (len(texts), 2 * width): of the last layer and of the middle one, each part of length 1."""
        rows = [one.sentence for one in self.encode(texts, [()] * len(texts))]
        return np.stack(rows) if rows else np.zeros((0, self.widths[0]), np.float32)

    def token_features(self, texts: Sequence[str], spans: Sequence[Spans]) -> list[np.ndarray]:
        """For each text float32 of shape (len(its spans), width).

        A span, (start, end) in characters, is the mean of the tokens that it touches; zero beyond the longest text
        that the encoder takes.
        """
        return [one.tokens for one in self.encode(texts, spans)]

    def encode(
        self, texts: Sequence[str], spans: Sequence[Spans], spans_of: Callable[[str], Spans] | None = None
    ) -> list[Features]:
        """Both at once: to ask for both costs one pass of the network, not two. `spans_of` tells those of a text that
        waits.
        """
        keys = [self._key(text, own) for text, own in zip(texts, spans, strict=True)]
        found = {key: self._cache.get(key) for key in keys} if self._cache else dict.fromkeys(keys)
        missing = {key: index for index, key in enumerate(keys) if found[key] is None}
        with self._lock:  # one thread at a time: two would only share the same cores
            computed = self._compute(
                [_Asked(key, texts[i], spans[i]) for key, i in missing.items()], spans_of or _no_spans
            )
        for key, matrix in computed.items():
            if self._cache:
                self._cache.put(key, matrix)
        found |= computed
        return [_features(found[key]) for key in keys]

    def _key(self, text: str, spans: Spans) -> bytes:
        """The digest of encoder, number format, text and spans."""
        places = np.array(spans, dtype=np.int64).tobytes()
        parts = (
            _FORM + str(self._format).encode(),
            bytes.fromhex(self.digest),
            hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(),
            places,
        )
        return hashlib.sha256(b"".join(parts)).digest()[:16]

    def _compute(self, asked: Sequence[_Asked], spans_of: Callable[[str], Spans]) -> dict[bytes, np.ndarray]:
        """By key float16 of shape (2 + number of spans, width): the sentence in two layers, then its spans."""
        results: dict[bytes, np.ndarray] = {}
        for batch, length in _batches(self._tokenized(asked)):
            if self._cache:
                batch += self._idle(_num_rows(length) - len(batch), length, spans_of, results)
            for text, last, middle in zip(batch, *self._states(batch, length), strict=False):
                end = len(text.ids)
                results[text.asked.key] = _pooled(last[:end], middle[:end], text.offsets, text.asked.spans)
        return results

    def _tokenized(self, asked: Sequence[_Asked]) -> list[_Text]:
        encoded = self._tokenizer.encode_batch([_SURROGATES.sub("\ufffd", one.text) for one in asked])
        return [
            _Text(one, tokens.ids, np.array(tokens.offsets).reshape(-1, 2))
            for one, tokens in zip(asked, encoded, strict=True)
        ]

    def _idle(self, num: int, length: int, spans_of: Callable[[str], Spans], done: Collection[bytes]) -> list[_Text]:
        """Up to `num` texts that wait, of that length, to be computed in rows that would be idle."""
        self._take_some(spans_of)
        at_hand, found = self._at_hand.get(length, []), list[_Text]()
        while at_hand and len(found) < num:
            text = at_hand.pop()
            if not self._is_kept(text.asked) and text.asked.key not in done:
                found.append(text)
        return found

    def _take_some(self, spans_of: Callable[[str], Spans]) -> None:
        """Have some of the waiting texts at hand, by length, as long as there is room for more."""
        if not self._waiting:
            return
        if sum(map(len, self._at_hand.values())) > MAX_AT_HAND:
            self._at_hand = {
                length: [text for text in texts if not self._is_kept(text.asked)]
                for length, texts in self._at_hand.items()
            }
            if sum(map(len, self._at_hand.values())) > MAX_AT_HAND:
                return
        texts = [self._waiting.popleft() for _ in range(min(WAITING_CHUNK, len(self._waiting)))]
        asked = [_Asked(self._key(text, spans := spans_of(text)), text, spans) for text in texts]
        for text in self._tokenized([one for one in asked if not self._is_kept(one)]):
            self._at_hand.setdefault(_length(text), []).append(text)

    def _is_kept(self, asked: _Asked) -> bool:
        return self._cache is not None and asked.key in self._cache

    def _states(self, batch: Sequence[_Text], length: int) -> tuple[np.ndarray, np.ndarray]:
        """The hidden states of the last and the middle layer, float32 of shape (at least len(batch), length, width)."""
        length = min(length, self._max_length)
        num_rows = _num_rows(length) if self._cache else len(batch)
        ids = torch.zeros((num_rows, length), dtype=torch.int64)
        mask = torch.zeros((num_rows, length), dtype=torch.bool)
        mask[:, 0] = True  # a row without any token would have nothing to attend to
        for row, text in enumerate(batch):
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
            mask[row, : len(text.ids)] = True
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            states = self._net(ids, mask)
        return np.asarray(states[-1].float().numpy()), np.asarray(states[len(states) // 2].float().numpy())


def _number_format() -> torch.dtype:
    """What the encoder computes with. Where bfloat16 has units of its own it takes a third of the time of float32, and
    moves a feature by about a thousandth; where it has none it takes longer.
    """
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.10
    return torch.bfloat16 if has.get("amx_bf16") or has.get("avx512_bf16") else torch.float32


def _batches(texts: Sequence[_Text]) -> Iterator[tuple[list[_Text], int]]:
    """Texts of about one length together, and that length: a multiple of LENGTH_STEP."""
    groups: dict[int, list[_Text]] = {}
    for text in texts:
        groups.setdefault(_length(text), []).append(text)
    for length, group in sorted(groups.items()):
        for start in range(0, len(group), _num_rows(length)):
            yield group[start : start + _num_rows(length)], length


def _no_spans(_: str) -> Spans:
    return ()


def _length(text: _Text) -> int:
    """How long the rows of its batch are."""
    return -(-max(1, len(text.ids)) // LENGTH_STEP) * LENGTH_STEP


def _num_rows(length: int) -> int:
    return max(1, min(MAX_ROWS, MAX_BATCH_TOKENS // length))


def _pooled(last: np.ndarray, middle: np.ndarray, offsets: np.ndarray, spans: Spans) -> np.ndarray:
    """The mean of all tokens in both layers with length 1, then those of the tokens that each span touches: float16."""
    rows = [_mean_of_length_one(last), _mean_of_length_one(middle)]
    for start, end in spans:
        touched = (offsets[:, 0] < end) & (offsets[:, 1] > start)
        rows.append(middle[touched].mean(axis=0) if touched.any() else np.zeros_like(rows[0]))
    return np.stack(rows).astype(np.float16)


def _mean_of_length_one(states: np.ndarray) -> np.ndarray:
    """Zero where there are none."""
    mean = states.mean(axis=0) if len(states) else np.zeros(states.shape[1:], np.float32)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12))


def _features(matrix: np.ndarray | None) -> Features:
    assert matrix is not None, "what was missing has been computed"
    wide = matrix.astype(np.float32)
    return Features(wide[:NUM_SENTENCE_ROWS].ravel(), wide[NUM_SENTENCE_ROWS:])


def _tokenizer(source: str, path: Path, sizes: BertSizes) -> Any:
    """The encoder's own tokenizer, without padding, cutting texts where the network's positions end."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        hint = "pip install tokenizers, or perdure with its extra 'encoder'"
        raise SettingError(f"--set encoder={source}: needs the package tokenizers: {hint}") from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more special
        raise SettingError(f"--set encoder={source}: {path} cannot be read: {error}") from error
    if (found := tokenizer.get_vocab_size()) > sizes.num_words:
        raise SettingError(f"--set encoder={source}: {path} has {found} words, the network {sizes.num_words}")
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=sizes.num_positions)
    return tokenizer
