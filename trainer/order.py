"""The order of one pass over a round's examples: a pure function of (seed, round, pass, ledger).

The shards are permuted and cut into windows that fit half of the cache; the examples of a window are permuted.
A place is a number of examples, and any place is found without going through what lies before it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainer.draw import permutation, stream


@dataclass(frozen=True, kw_only=True)
class Window:
    """Parts that are open together. `parts`: their numbers; `start`: place of its first example in the pass."""

    parts: np.ndarray
    start: int
    num_examples: int


class PassOrder:
    """The order of pass `number` over parts with `counts` examples and `sizes` bytes, both int64 of shape (parts,)."""

    def __init__(self, counts: np.ndarray, sizes: np.ndarray, window_bytes: int, key: tuple[int, int, int]) -> None:
        seed, round, number = key
        self.counts = counts
        self._key = key
        shuffled = permutation(stream(seed, "shards", round, number), len(counts))
        cuts = _cuts(sizes[shuffled], window_bytes)
        self._parts = np.split(shuffled, cuts)
        ends = np.cumsum([counts[parts].sum() for parts in self._parts])
        self._starts = np.concatenate([[0], ends[:-1]])
        self._newest = (-1, np.empty(0, np.int64))

    @cached_property
    def num_examples(self) -> int:
        """Examples of the whole pass."""
        return int(self.counts.sum())

    @property
    def num_windows(self) -> int:
        """How many windows the pass has."""
        return len(self._parts)

    def window_at(self, place: int) -> int:
        """The number of the window that holds a place."""
        return int(np.searchsorted(self._starts, place, side="right")) - 1

    def window(self, number: int) -> Window:
        """One window."""
        parts = self._parts[number]
        return Window(parts=parts, start=int(self._starts[number]), num_examples=int(self.counts[parts].sum()))

    def located(self, number: int, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at places of a window, counted from its start: (part numbers, indices within the part)."""
        window = self.window(number)
        ends = np.cumsum(self.counts[window.parts])
        places = self._shuffled(number, window.num_examples)[within]
        which = np.searchsorted(ends, places, side="right")
        return window.parts[which], places - (ends - self.counts[window.parts])[which]

    def _shuffled(self, number: int, num_examples: int) -> np.ndarray:
        """The examples of a window in order; that of the window asked for last is kept."""
        if self._newest[0] != number:
            seed, round, pass_number = self._key
            key = stream(seed, "examples", round, pass_number, number)
            self._newest = (number, permutation(key, num_examples))
        return self._newest[1]


def _cuts(sizes: np.ndarray, window_bytes: int) -> list[int]:
    """Where to cut so that each piece is as long as fits; a shard larger than a window is a piece of its own."""
    cuts, held = [], 0
    for place, size in enumerate(sizes.tolist()):
        if held and held + size > window_bytes:
            cuts.append(place)
            held = 0
        held += size
    return cuts
