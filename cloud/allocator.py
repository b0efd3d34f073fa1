"""Memory that was freed and that the C library keeps all the same."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Let the system have the memory that nobody uses any more, where that can be asked for (glibc).

    By itself glibc gives back only what lies at the end of one of its arenas, of which each thread may use another.
    """
    _trim()(0)


@cache
def _trim() -> Callable[[int], int]:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim if sys.platform == "linux" else int
    except (OSError, AttributeError):  # another C library
        return int
    return trim
