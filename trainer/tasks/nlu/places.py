"""Where something is in a file of text: faults know the index of a character, people line and column."""

import bisect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

_BREAK = re.compile(r"\r\n?|\n")


class Fault(ValueError):
    """What is wrong, and the index of the character where it is, in the text at hand."""

    def __init__(self, what: str, index: int = 0) -> None:
        super().__init__(what)
        self.index = index


@contextmanager
def moved(to: Callable[[int], int]) -> Iterator[None]:
    """Faults of a part get the place in the whole: `to` maps the one index to the other."""
    try:
        yield
    except Fault as fault:
        raise Fault(str(fault), to(fault.index)) from fault


class Lines:
    """The lines of a text, found when first asked for: a good file is never asked."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def starts(self) -> list[int]:
        """The index of the first character of every line."""
        return [0, *(match.end() for match in _BREAK.finditer(self._text))]

    def where(self, fault: Fault) -> str:
        """The fault in one line with its place, both counted from 1."""
        line = bisect.bisect_right(self.starts, fault.index)
        return f"line {line}, column {fault.index - self.starts[line - 1] + 1}: {fault}"
