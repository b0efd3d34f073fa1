"""Work on all cores that this process may use, in threads: for what releases the interpreter most of its time."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")


@cache
def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_all_cores(work: Callable[[Sequence[T]], None], items: Sequence[T], min_piece: int, max_piece: int) -> None:
    """Call `work` on pieces of the items, of so many each that a slow one holds the others up little.

    The first error in their order is raised.
    """
    size = min(max_piece, max(min_piece, -(-len(items) // (2 * num_cores()))))
    pieces = [items[start : start + size] for start in range(0, len(items), size)]
    if min(len(pieces), num_cores()) > 1:
        list(_pool().map(work, pieces))
    else:
        for piece in pieces:
            work(piece)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_cores(), "cores")
