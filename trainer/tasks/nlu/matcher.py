"""Where users' regexes and lookup tables find something in a message."""

import re
from collections.abc import Iterator, Sequence

from trainer.tasks.nlu.tokens import Token, tokenize
from trainer.vocabulary import Vocabulary

MAX_REGEX_CHARS = 300
"""So much of a message is searched for regexes: some need the cube of the length, and features must not take hours."""


class Matcher:
    """Where regexes match and elements of lookup tables occur, whatever their case."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        lines = vocabulary.names("regex")  # a feature each: what one name stands for may be edited
        self._patterns = [(f"regex:{line}", re.compile(line.split("\t", 1)[1])) for line in lines]
        self._tables: dict[tuple[str, ...], set[str]] = {}
        for name, element in (name.split("\t", 1) for name in vocabulary.names("lookup")):
            self._tables.setdefault(_folded(tokenize(element)), set()).add(f"lookup:{name}")
        self._longest = max(map(len, self._tables), default=0)

    @property
    def has_any(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._patterns or self._tables)

    def matches(self, text: str, tokens: Sequence[Token]) -> Iterator[tuple[str, int, int]]:
        """The feature's name and the characters from start to end of each match that is not empty."""
        for name, pattern in self._patterns:
            yield from ((name, *match.span()) for match in pattern.finditer(text, 0, MAX_REGEX_CHARS) if match[0])
        words = _folded(tokens) if self._longest else ()
        for first in range(len(words)):
            for last in range(first, min(len(words), first + self._longest)):
                for name in sorted(self._tables.get(words[first : last + 1], ())):
                    yield name, tokens[first].start, tokens[last].end


def _folded(tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(token.text.casefold() for token in tokens)
