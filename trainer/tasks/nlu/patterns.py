"""Regular expressions that end on every message.

Python's `re` tries every way to match. Where a repetition holds parts that can share the same characters in several
ways, as in (\\w+\\s?)*, those ways double with every character, and forty characters take years. Such patterns are told
from the others by their first characters, as a grammar is checked for needing one character of lookahead: some are
refused that would end, and none is accepted that never would but for a back-reference's sake.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import combinations
from re import _parser  # type: ignore[attr-defined]  # where re keeps its own reading of a pattern
from typing import Any

from trainer.tasks.nlu.places import Fault

MAX_TIMES = 3
"""What is repeated at most so often is no matter: the ways grow with a power of the length, not the length a power."""
_LATIN = frozenset(range(256))
_OTHERS = "ж\u0660\u3000😀"
_ALL = _LATIN | frozenset(map(ord, _OTHERS))
"""Latin characters, and one that stands for all other letters, for digits, for white space and for signs."""
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_FINAL = ("POSSESSIVE_REPEAT", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT")
"""What is never read in another way once it has matched."""
_SCOPED_CASE = re.compile(r"\(\?[a-z]*i[a-z-]*:")
_CATEGORIES = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
Chars = frozenset[int]
Items = Sequence[tuple[Any, Any]]
Fold = Callable[[Chars], Chars]


def checked_pattern(pattern: str) -> str:
    """The pattern; Fault, with the place in it, where it is none or may never end."""
    try:
        flags = re.compile(pattern).flags
        items = list(_parser.parse(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        what = getattr(error, "msg", str(error))
        raise Fault(f"is no regular expression: {what}", getattr(error, "pos", None) or 0) from error
    fold = _both_cases if flags & re.IGNORECASE or _SCOPED_CASE.search(pattern) else frozenset
    if any(_collides(body, _first(body)[0], fold) for body in _loops(items)):
        raise Fault(
            "may take forever on some messages: what is repeated can be read in more than one way, as in (a+)+ or "
            r"(\w+\s?)*; let the repeated part begin or end with a sign of its own, as in (\w+,)*"
        )
    return pattern


def _loops(items: Items) -> Iterator[Items]:
    """What is repeated many times, at any depth."""
    for name, value in _named(items):
        if name in _REPEATS and name not in _FINAL and value[1] > MAX_TIMES:
            yield list(value[2])
        for part in _parts(name, value):
            yield from _loops(part)


def _collides(items: Items, follow: Chars, fold: Fold) -> bool:
    """Whether one character can be read in two ways in a part of a repetition that `follow` can come after.

    `fold`: what the sets of characters are as the pattern reads them.
    """
    for place, (name, value) in enumerate(_named(items)):
        if name in _FINAL:
            continue
        rest, empty = _first(items[place + 1 :])
        after = rest | follow if empty else rest
        if name in _REPEATS:
            again = _first(list(value[2]))[0]
            if value[0] != value[1] and fold(again) & fold(after):
                return True
            after |= again if value[1] > 1 else frozenset()
        parts = _parts(name, value)
        if name == "BRANCH" and any(_overlap(*pair, after, fold) for pair in combinations(parts, 2)):
            return True
        if any(_collides(part, after, fold) for part in parts):
            return True
    return False


def _overlap(one: Items, other: Items, after: Chars, fold: Fold) -> bool:
    """Whether two alternatives can begin alike, behind the literal characters that they share."""
    shared = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours != theirs or str(ours[0]) != "LITERAL":
            break
        shared += 1
    (chars, empty), (others, other_empty) = _first(one[shared:]), _first(other[shared:])
    return bool(fold(chars | after if empty else chars) & fold(others | after if other_empty else others))


def _first(items: Items) -> tuple[Chars, bool]:
    """The characters that can begin a match of a sequence, and whether it can match nothing."""
    found: Chars = frozenset()
    for name, value in _named(items):
        chars, empty = _first_of(name, value)
        found |= chars
        if not empty:
            return found, False
    return found, True


def _first_of(name: str, value: Any) -> tuple[Chars, bool]:
    if name in ("AT", "ASSERT", "ASSERT_NOT"):
        return frozenset(), True
    if name.startswith("GROUPREF") and name != "GROUPREF_EXISTS":
        return _ALL, True
    if parts := _parts(name, value):
        each = [_first(part) for part in parts]
        empty = any(empty for _, empty in each) or (name in _REPEATS and value[0] == 0) or name == "GROUPREF_EXISTS"
        return frozenset().union(*(chars for chars, _ in each)), empty
    return _chars(name, value), False


def _chars(name: str, value: Any) -> Chars:
    """What a single place of a pattern takes."""
    if name == "LITERAL":
        return frozenset([_standing_for(value)])
    if name == "NOT_LITERAL":
        return _ALL - (_LATIN & {value})
    if name == "RANGE":
        return frozenset(map(_standing_for, (*range(value[0], min(value[1], 255) + 1), *value)))
    if name == "CATEGORY":
        return _category(str(value).rpartition("CATEGORY_")[2])
    if name == "IN":
        found = frozenset().union(*(_chars(part, one) for part, one in _named(value) if part != "NEGATE"))
        return _ALL - (_LATIN & found) if str(value[0][0]) == "NEGATE" else found
    return _ALL


def _standing_for(char: int) -> int:
    """The character itself, or the one that stands for it."""
    if char in _LATIN:
        return char
    return next(ord(other) for other in _OTHERS if _kinds(other) == _kinds(chr(char)))


def _kinds(char: str) -> list[bool]:
    return [bool(re.match(kind, char)) for kind in _CATEGORIES.values()]


def _both_cases(chars: Chars) -> Chars:
    letters = "".join(map(chr, chars))
    return chars | frozenset(map(ord, letters.lower() + letters.upper()))


@cache
def _category(name: str) -> Chars:
    kind = re.compile(_CATEGORIES[name.removeprefix("NOT_")])
    return frozenset(c for c in _ALL if bool(kind.fullmatch(chr(c))) != name.startswith("NOT_"))


def _parts(name: str, value: Any) -> list[Items]:
    """The sequences within one item of a pattern."""
    if name in _REPEATS:
        return [list(value[2])]
    if name == "BRANCH":
        return [list(part) for part in value[1]]
    if name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT"):
        return [list(value[-1])]
    if name == "GROUPREF_EXISTS":
        return [list(part) for part in value[1:] if part is not None]
    return [list(value)] if name == "ATOMIC_GROUP" else []


def _named(items: Items) -> Iterator[tuple[str, Any]]:
    return ((str(name), value) for name, value in items)
