"""Pairs of texts that people edit: a surface and its value, a response key and its answer. What was said last holds.

In a vocabulary a pair is one name, "key TAB text". As names only append, a pair that was said before, given up for
another one and is said again comes back under a new name, with a number behind it.
"""

from collections.abc import Callable, Collection, Mapping

from trainer.vocabulary import Vocabulary

AGAIN = "\x1e"
"""What parts a pair from its number: a sign that no text needs."""


def line(key: str, text: str) -> str:
    """The name of a pair."""
    return f"{key}\t{text}".replace(AGAIN, " ")


def pair(name: str) -> tuple[str, str]:
    """Key and text of a name."""
    key, _, text = name.partition(AGAIN)[0].partition("\t")
    return key, text


def brought(
    vocabulary: Vocabulary, kind: str, lines: Collection[str], served: Mapping[str, str], fold: Callable[[str], str]
) -> set[str]:
    """The lines of a round, under a new name where they are known and yet not what is `served`, by folded key."""
    of_key: dict[str, set[str]] = {}
    for one in lines:
        of_key.setdefault(fold(pair(one)[0]), set()).add(one)
    names, known = set(lines), vocabulary.ids(kind)
    for key, own in of_key.items():
        if own <= known.keys() and served.get(key) not in {pair(one)[1] for one in own}:
            names |= {f"{one}{AGAIN}{len(known)}" for one in own}
    return names
