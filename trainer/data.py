"""Batches of a round from any place on: found by number, never by reading through what was seen."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from trainer.draw import draws, stream
from trainer.errors import shown
from trainer.ledger import Round
from trainer.opened import OpenShards
from trainer.order import PassOrder
from trainer.parts import parts_of
from trainer.plan import Target
from trainer.task import UNREADABLE
from trainer.vocabulary import Vocabulary
from trainer.window import OpenWindow
from trainer.world import World

BLOCK_SECONDS = 0.002
WAITS = 10
"""So much longer a block may take by the clock, with the threads that help to make it."""
MAX_BLOCK_STEPS = 64


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
class _Block:
    """The examples of some steps on this rank, with their part numbers and the seeds of their augmentation."""

    examples: Sequence[Any]
    parts: np.ndarray
    seeds: np.ndarray


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
        self._first_of_part = np.cumsum(self._counts) - self._counts
        self._orders: dict[int, PassOrder] = {}
        self._augment_key = cache(lambda number: stream(seed, "augment", round.number, number))

    def batches(self, start: int) -> Iterator[Batch]:
        """Every batch from place `start` of the round, which must be where a step ended."""
        return itertools.chain.from_iterable(self.blocks(start))

    def blocks(self, start: int) -> Iterator[list[Batch]]:
        """The same, as many at a time as are made in a moment: what a block costs is shared by its batches.

        The first is a single one, so that training begins at once.
        """
        num_steps = 1
        with OpenWindow(self.parts, self.opened) as window:
            while start < self.goal.num_examples:
                spans = self._spans(start, self._move_to(window, start), num_steps)
                began, began_here = time.perf_counter(), time.thread_time()
                block = self._batches(window, spans)
                # Mostly this thread's own time: a wait for the interpreter is none of the block's.
                took = max(time.thread_time() - began_here, (time.perf_counter() - began) / WAITS)
                yield block
                start = spans[-1][1]
                if took > BLOCK_SECONDS:
                    num_steps = max(1, num_steps // 2)
                elif took < BLOCK_SECONDS / 2:
                    num_steps = min(2 * num_steps, MAX_BLOCK_STEPS)

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

    def _spans(self, start: int, window_end: int, at_most: int) -> list[tuple[int, int]]:
        """First and last place of some steps in a row: an epoch's last batch is short, none crosses an epoch.

        Only a step that is alone crosses the end of its window.
        """
        spans: list[tuple[int, int]] = []
        while start < self.goal.num_examples and len(spans) < at_most:
            epoch_end = (start // self.goal.epoch_examples + 1) * self.goal.epoch_examples
            stop = min(start + self._batch_size, epoch_end)
            if spans and stop > window_end:
                break
            spans.append((start, stop))
            start = stop
        return spans

    def _batches(self, window: OpenWindow, spans: Sequence[tuple[int, int]]) -> list[Batch]:
        """The batches of some steps in a row."""
        own = [self.world.share(*span) for span in spans]
        block = self._block(window, np.concatenate([np.arange(*share) for share in own]))
        starts = itertools.accumulate((stop - start for start, stop in own), initial=0)
        return [
            self._batch(block, place, place + stop - start, span)
            for place, (start, stop), span in zip(starts, own, spans, strict=False)
        ]

    def _batch(self, block: _Block, start: int, stop: int, span: tuple[int, int]) -> Batch:
        """The batch of one step, whose examples are those from `start` to `stop` of a block."""
        parts, collate = block.parts[start:stop], self.opened.task.collate
        cuts = [slice(start + low, start + high) for low, high in _even_cuts(stop - start, self._micro_batch_size)]
        try:
            micro_batches = [collate(block.examples[cut], self._vocabulary, block.seeds[cut]) for cut in cuts]
        except (*UNREADABLE, RuntimeError) as error:
            error.add_note(f"in a batch of examples of {shown(self.keys(parts))}")
            raise
        return Batch(micro_batches=micro_batches, num_examples=span[1] - span[0], end=span[1], parts=parts)

    def _block(self, window: OpenWindow, places: np.ndarray) -> _Block:
        """The examples at some places of the round, ascending."""
        blocks: list[_Block] = []
        while len(places):
            number = int(places[0]) // self.goal.pass_examples
            here = int(np.searchsorted(places, self._move_to(window, int(places[0]))))
            within = places[:here] - number * self.goal.pass_examples - window.start
            parts, indices = window.located(within)
            seeds = draws(self._augment_key(number), self._first_of_part[parts] + indices)
            blocks.append(_Block(window.take(parts, indices), parts, seeds))
            places = places[here:]
        return _joined(blocks)

    def _move_to(self, window: OpenWindow, place: int) -> int:
        """Have the window open that holds a place of the round; the place of the round where that window ends."""
        number, within = divmod(place, self.goal.pass_examples)
        order = self.order(number)
        if window.move_to(order, order.window_at(within)):
            self._prefetch(number, order.window_at(within))
        return number * self.goal.pass_examples + window.stop

    def _prefetch(self, pass_number: int, number: int) -> None:
        """Ask for this window's shards and, behind them, the next one's (of the next pass after the last)."""
        order = self.order(pass_number)
        wanted = order.window(number).parts.tolist()
        if number + 1 < order.num_windows:
            wanted += order.window(number + 1).parts.tolist()
        elif (pass_number + 1) * self.goal.pass_examples < self.goal.num_examples:
            wanted += self.order(pass_number + 1).window(0).parts.tolist()
        self.opened.prefetch([self.parts[part].shard for part in wanted])


def _joined(blocks: Sequence[_Block]) -> _Block:
    """Those of a step that crosses the end of a window, example by example; otherwise there is but one."""
    if len(blocks) == 1:
        return blocks[0]
    examples = [example for block in blocks for example in block.examples]
    parts = [block.parts for block in blocks] or [np.empty(0, np.int64)]
    seeds = [block.seeds for block in blocks] or [np.empty(0, np.uint64)]
    return _Block(examples, np.concatenate(parts), np.concatenate(seeds))


@cache
def _even_cuts(num: int, at_most: int) -> tuple[tuple[int, int], ...]:
    """As few pieces of 0 .. num as can be, of sizes that differ by one at most: none is left with a single example,
    which BatchNorm cannot take, when it can be helped.
    """
    num_pieces = -(-num // at_most)
    edges = [num * place // num_pieces for place in range(num_pieces + 1)] if num else []
    return tuple(itertools.pairwise(edges))
