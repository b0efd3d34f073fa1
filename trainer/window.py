"""The shards that are open together, and the examples of theirs that come next."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from trainer.opened import OpenShards
from trainer.order import PassOrder
from trainer.parts import Part, indices_of


class OpenWindow:
    """A window of a pass: a shard is opened when an example of it comes, and all are closed when another begins.

    `start` and `stop` are the places of the pass where it begins and ends.
    """

    def __init__(self, parts: Sequence[Part], opened: OpenShards) -> None:
        self._parts, self._opened = parts, opened
        self._stack = ExitStack()
        self._order: PassOrder | None = None
        self._number = -1
        self.start = self.stop = 0
        self._sequences: dict[int, Sequence[Any]] = {}
        self._indices: dict[int, np.ndarray] = {}

    def __enter__(self) -> "OpenWindow":
        return self

    def __exit__(self, *exc: Any) -> None:
        self._order, self._sequences = None, {}
        self._stack.__exit__(*exc)  # a shard that was gone is told by who brought it

    def move_to(self, order: PassOrder, number: int) -> bool:
        """Go to a window of a pass; False when it is there already."""
        if self._order is order and self._number == number:
            return False
        self._close()
        window = order.window(number)
        self.start, self.stop = window.start, window.start + window.num_examples
        self._order, self._number = order, number
        return True

    def located(self, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Part numbers and indices within the part of the examples at places of the window, counted from its start."""
        assert self._order is not None, "it was moved"
        return self._order.located(self._number, within)

    def take(self, parts: np.ndarray, indices: np.ndarray) -> Sequence[Any]:
        """The examples `indices[i]` of `parts[i]`, as the task puts them together."""
        numbers, which = np.unique(parts, return_inverse=True)
        found = np.empty_like(indices)
        for place, number in enumerate(numbers.tolist()):
            here = which == place
            found[here] = self._found(number, self._open(number), indices[here])
        return self._opened.task.take([self._sequences[number] for number in numbers.tolist()], which, found)

    def _open(self, number: int) -> Sequence[Any]:
        if number not in self._sequences:
            shard = self._parts[number].shard
            self._sequences[number] = self._stack.enter_context(self._opened.open(shard))
        return self._sequences[number]

    def _found(self, number: int, examples: Sequence[Any], indices: np.ndarray) -> np.ndarray:
        """Where some examples of a part are in its shard's sequence."""
        part = self._parts[number]
        if part.is_whole and len(examples) == part.shard.num_read:
            return indices
        if number not in self._indices:
            self._indices[number] = indices_of(part, self._opened.task, examples)
        found: np.ndarray = self._indices[number][indices]
        return found

    def _close(self) -> None:
        self._order, self._sequences = None, {}
        self._stack.close()
