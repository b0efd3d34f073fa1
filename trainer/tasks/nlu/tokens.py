"""Text cut into tokens with their places in it, in any script, without a word list."""

import re
import unicodedata
from typing import NamedTuple


class Token(NamedTuple):
    """A piece of a text: `text[start:end]`, in characters."""

    text: str
    start: int
    end: int


def tokenize(text: str) -> tuple[Token, ...]:
    """The tokens of a text, in order; none when it is blank. Every character but white space is in exactly one.

    Words, numbers with their separators (1,000.50, 12:30, 4th), web and mail addresses are tokens; so is every other
    sign (a run of one and the same is one token), every emoji with what modifies it, and, in scripts that do not
    put spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), every character with its marks. Signs
    are apart from words because entities end there: [Alice](person)'s, $[100](amount), [Paris](city)-[Rome](city).
    """
    return tuple(Token(match[0], *match.span()) for match in _TOKEN.finditer(text))


def _marks() -> str:
    """Combining characters, which `\\w` leaves out though they are inside words (vowel signs of Hindi and others)."""
    places = (*range(0x300, 0x1E00), *range(0x20D0, 0x2100), *range(0xA600, 0xAC00), *range(0xFE00, 0xFE30))
    return "".join(char for char in map(chr, places) if unicodedata.category(char).startswith("M"))


_MARK = f"[{_marks()}\u200c\u200d\U0001f3fb-\U0001f3ff]"  # with the joiners, and the colours of emoji
_UNSPACED = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u1000-\u102a\u1780-\u17b3"
    "\u3040-\u3096\u309d-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_LETTER = rf"(?:(?![{_UNSPACED}])\w|(?<=\w){_MARK}|(?<={_MARK}){_MARK})"
_TOKEN = re.compile(
    rf"(?:https?://|www\.)\S{{0,2000}}[^\s.,;:!?'\")\]}}>]"
    rf"|[\w.+-]{{1,64}}@\w{{1,64}}(?:[.-]\w{{1,64}}){{1,8}}"  # bounded, or long texts would take forever
    rf"|\d+(?:[.,:/]\d+)*{_LETTER}*"
    rf"|[{_UNSPACED}]{_MARK}*"
    rf"|{_LETTER}+"
    rf"|([^\w\s])\1*{_MARK}*(?:(?<=\u200d)\S{_MARK}*)*"
    rf"|\S"
)
