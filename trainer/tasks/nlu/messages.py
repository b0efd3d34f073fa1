"""What the shards of task `nlu` hold: messages with their annotations, and what helps to understand them.

All are named tuples of text and numbers: they compare by value, cost little memory and pass between processes.
"""

from typing import NamedTuple


class Entity(NamedTuple):
    """What a part of a message stands for: `text[start:end]`, counted in characters (code points)."""

    start: int
    end: int
    entity: str
    role: str | None = None
    group: str | None = None
    value: str | None = None
    """What the part means where that differs from what it says; None where it does not."""


class Message(NamedTuple):
    """One example: what a user may write, and what it means as far as that is annotated.

    `intent` is the intent alone ("faq"), `response_key` the full name of a retrieval intent ("faq/ask_hours").
    Entities are in the order of their places; two of them are apart, or on the very same place.
    """

    text: str
    intent: str | None = None
    response_key: str | None = None
    entities: tuple[Entity, ...] = ()


class Regex(NamedTuple):
    """A named regular expression: whether and where it matches is a feature."""

    name: str
    pattern: str


class Lookup(NamedTuple):
    """One element of a named lookup table: whether and where it occurs is a feature."""

    name: str
    element: str


class Synonym(NamedTuple):
    """A way to write a value: an entity that reads `surface` (in any case of letters) has the value `value`."""

    surface: str
    value: str


class Response(NamedTuple):
    """A text that answers a retrieval intent: `key` is the intent's full name, "faq/ask_hours"."""

    key: str
    text: str


Resource = Regex | Lookup | Synonym | Response
"""What a file holds beside messages."""
