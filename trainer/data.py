"""Batches of a round from any place on: found by number, never by reading through what was seen."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.census import usable_indices
from trainer.draw import draws, stream
from trainer.errors import DataError, shown
from trainer.ledger import Replay, Round, Shard
from trainer.opened import OpenShards
from trainer.order import PassOrder
from trainer.plan import Target
from trainer.task import UNREADABLE, Task
from trainer.vocabulary import Vocabulary
from trainer.world import World


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The examples of one step on this rank, collated, in the micro-batches of one forward pass each.

    `num_examples` counts those of all ranks; `end` is the place in the round after the step; `parts` (which part each
    example came from) is only read to name shards in an error.
    """

    micro_batches: Sequence[Any]
    num_examples: int
    end: int
    parts: np.ndarray


@dataclass(frozen=True, slots=True)
class Part:
    """Examples that one shard gives to a round: those it brings, or old ones drawn from it."""

    shard: Shard
    replay: Replay | None
    num_examples: int


def parts_of(round: Round) -> list[Part]:
    """What a round consists of, in the order of the ledger: its own shards, then the old examples drawn."""
    own = [Part(shard, None, shard.num_new) for shard in round.shards if shard.split == "train" and shard.num_new]
    old = [Part(replay.shard, replay, replay.num_examples) for replay in round.replay if replay.num_examples]
    return sorted(own, key=_sort_key) + sorted(old, key=_sort_key)


def _sort_key(part: Part) -> bytes:
    return part.shard.sort_key


def indices_of(part: Part, task: Task, examples: Sequence[Any]) -> np.ndarray:
    """Where the part's examples are in the shard's sequence, int64 of shape (part.num_examples,)."""
    if len(examples) != part.shard.num_read:
        raise DataError(f"{part.shard.key}: {len(examples)} examples, the census found {part.shard.num_read}")
    usable = usable_indices(part.shard)
    if part.replay is None:
        return usable if part.shard.new is None else np.array(part.shard.new, dtype=np.int64)
    old = np.setdiff1d(usable, np.array(part.shard.new or (), dtype=np.int64), assume_unique=True)
    if part.replay.picks is None:
        return old
    return _picked(part.replay.picks, [task.label(examples[index]) or "" for index in old.tolist()], old)


def _picked(picks: Mapping[str, Sequence[int]], labels: Sequence[str], indices: np.ndarray) -> np.ndarray:
    """The picked ordinals of each label as indices, sorted."""
    of_label: dict[str, list[int]] = {}
    for label, index in zip(labels, indices.tolist(), strict=True):
        of_label.setdefault(label, []).append(index)
    chosen = [of_label[label][ordinal] for label, ordinals in picks.items() for ordinal in ordinals]
    return np.array(sorted(chosen), dtype=np.int64)


class Loader:
    """The batches of one round. Everything it yields is a function of the round, the seed and the place asked for."""

    def __init__(
        self, round: Round, goal: Target, opened: OpenShards, vocabulary: Vocabulary, seed: int, world: World
    ) -> None:
        self.round, self.goal, self.seed, self.world = round, goal, seed, world
        self.parts = parts_of(round)
        self._batch_size = int(round.settings["batch_size"])
        self._micro_batch_size = int(round.settings["micro_batch_size"]) or self._batch_size
        self.opened, self._vocabulary = opened, vocabulary
        self._counts = np.array([part.num_examples for part in self.parts], dtype=np.int64)
        self._sizes = np.array([part.shard.size for part in self.parts], dtype=np.int64)
        self.first_of_part = np.cumsum(self._counts) - self._counts
        self._orders: dict[int, PassOrder] = {}
        self._indices: dict[int, np.ndarray] = {}

    def batches(self, start: int) -> Iterator[Batch]:
        """Every batch from place `start` of the round, which must be where a step ended."""
        with _OpenWindow(self) as window:
            for first, last in self._spans(start):
                yield self._batch(window, first, last)

    def keys(self, parts: np.ndarray) -> list[str]:
        """The shards that a batch's `parts` are."""
        return sorted({self.parts[part].shard.key for part in np.unique(parts).tolist()})

    def order(self, number: int) -> PassOrder:
        """The order of pass `number`, counted from 0."""
        if number not in self._orders:
            key = (self.seed, self.round.number, number)
            newest = PassOrder(self._counts, self._sizes, self.round.window_bytes, key)
            self._orders = {**dict([*self._orders.items()][-1:]), number: newest}
        return self._orders[number]

    def num_steps_left(self, start: int) -> int:
        """How many steps are left from place `start`."""
        per_epoch = -(-self.goal.epoch_examples // self._batch_size)
        epochs, rest = divmod(start, self.goal.epoch_examples)
        return max(0, self.goal.num_epochs - epochs) * per_epoch - rest // self._batch_size

    def _spans(self, start: int) -> Iterator[tuple[int, int]]:
        """First and last place of each step: an epoch's last batch is short, none crosses an epoch."""
        while start < self.goal.num_examples:
            epoch_end = (start // self.goal.epoch_examples + 1) * self.goal.epoch_examples
            stop = min(start + self._batch_size, epoch_end)
            yield start, stop
            start = stop

    def _batch(self, window: "_OpenWindow", first: int, last: int) -> Batch:
        start, stop = self.world.share(first, last)
        pieces = list(window.pieces(start, stop))
        examples = [example for piece in pieces for example in piece.examples]
        seeds = np.concatenate([piece.seeds for piece in pieces]) if pieces else np.empty(0, np.uint64)
        cuts = _even_slices(len(examples), self._micro_batch_size)
        parts = np.concatenate([piece.parts for piece in pieces]) if pieces else np.empty(0, np.int64)
        collate = self.opened.task.collate
        try:
            micro_batches = [collate(examples[cut], self._vocabulary, seeds[cut]) for cut in cuts]
        except (*UNREADABLE, RuntimeError) as error:
            error.add_note(f"in a batch of examples of {shown(self.keys(parts))}")
            raise
        return Batch(micro_batches=micro_batches, num_examples=last - first, end=last, parts=parts)

    def indices_of(self, number: int, examples: Sequence[Any]) -> np.ndarray:
        """Where the examples of part `number` are in its shard's opened sequence."""
        if number not in self._indices:
            self._indices[number] = indices_of(self.parts[number], self.opened.task, examples)
        return self._indices[number]


def _even_slices(num: int, at_most: int) -> list[slice]:
    """As few slices of 0 .. num as can be, of sizes that differ by one at most: none is left with a single example,
    which BatchNorm cannot take, when it can be helped.
    """
    num_slices = -(-num // at_most)
    edges = [num * place // num_slices for place in range(num_slices + 1)] if num else []
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Consecutive examples of one window, with their part numbers and the seeds of their augmentation."""

    examples: list[Any]
    parts: np.ndarray
    seeds: np.ndarray


class _OpenWindow:
    """The window that is being read: its shards are open, those of the windows after it on their way."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._stack = ExitStack()
        self._current: tuple[int, int] | None = None
        self._start = self._stop = 0
        self._parts = self._places = self._indices = np.empty(0, np.int64)
        self._sequences: dict[int, Sequence[Any]] = {}

    def __enter__(self) -> "_OpenWindow":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def pieces(self, start: int, stop: int) -> Iterator[_Piece]:
        """The examples at places [start, stop) of the round, window by window."""
        pass_examples = self._loader.goal.pass_examples
        while start < stop:
            number, place = divmod(start, pass_examples)
            self._move_to(number, place)
            end = min(stop - start, self._stop - place)
            yield self._piece(number, place - self._start, place - self._start + end)
            start += end

    def _piece(self, pass_number: int, start: int, stop: int) -> _Piece:
        loader, sequences = self._loader, self._sequences
        parts, indices = self._parts[start:stop], self._indices[start:stop]
        key = stream(loader.seed, "augment", loader.round.number, pass_number)
        seeds = draws(key, loader.first_of_part[parts] + self._places[start:stop])
        examples = [sequences[part][index] for part, index in zip(parts.tolist(), indices.tolist(), strict=True)]
        return _Piece(examples, parts, seeds)

    def _move_to(self, pass_number: int, place: int) -> None:
        order = self._loader.order(pass_number)
        number = order.window_at(place)
        if self._current == (pass_number, number):
            return
        self._stack.close()
        self._current, self._sequences = None, {}
        self._prefetch(pass_number, number)
        window = order.window(number)
        self._start, self._stop = window.start, window.start + window.num_examples
        self._parts, self._places = order.examples(number)
        self._indices = np.empty(window.num_examples, np.int64)
        for part in window.parts.tolist():
            examples = self._stack.enter_context(self._loader.opened.open(self._loader.parts[part].shard))
            self._sequences[part] = examples
            here = self._parts == part
            self._indices[here] = self._loader.indices_of(part, examples)[self._places[here]]
        self._current = (pass_number, number)

    def _prefetch(self, pass_number: int, number: int) -> None:
        """Ask for this window's shards and, behind them, the next one's (of the next pass after the last)."""
        loader, order = self._loader, self._loader.order(pass_number)
        wanted = order.window(number).parts.tolist()
        if number + 1 < order.num_windows:
            wanted += order.window(number + 1).parts.tolist()
        elif (pass_number + 1) * loader.goal.pass_examples < loader.goal.num_examples:
            wanted += loader.order(pass_number + 1).window(0).parts.tolist()
        loader.opened.prefetch([loader.parts[part].shard for part in wanted])
