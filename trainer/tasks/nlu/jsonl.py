"""Messages as JSON lines: `{"text", "intent", "response_key", "entities": [{"start", "end", "entity", ...}]}`.

Offsets count characters of `text`. All but `text` may be left out or null; `metadata` is allowed and not read.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from trainer.tasks.nlu.checks import check_encoding, checked_text, split_intent
from trainer.tasks.nlu.messages import Entity, Message
from trainer.tasks.nlu.objects import (
    ENTITY_FIELDS,
    Misfit,
    Path,
    at,
    decode,
    entity_at,
    fields_of,
    kind,
    placed,
    text_in,
)  # fmt: skip
from trainer.tasks.nlu.places import Fault, moved

FIELDS = ("text", "intent", "response_key", "entities", "metadata")
SPAN = ("start", "end")


def read_jsonl(text: str, max_text_chars: int) -> Iterator[Message | Fault]:
    """The message of each line, or what is wrong with it; empty lines are passed over."""
    start = 0
    for line in text.split("\n"):
        if line.strip():
            try:
                with moved(start.__add__):
                    yield _message(line.rstrip(), max_text_chars)
            except Fault as fault:
                yield fault
        start += len(line) + 1


def _message(line: str, max_text_chars: int) -> Message:
    check_encoding(line)
    start = len(line) - len(line.lstrip())
    value, end = decode(line, start)
    if line[end:]:
        raise Fault("one JSON object is a line, and here more follows", end)
    with placed(line, start, end):
        fields = fields_of(value, FIELDS, (), "a message")
        text = _text(fields, max_text_chars)
        return Message(text, *_intent(fields), _entities(fields, text))


def _text(fields: Mapping[str, Any], max_text_chars: int) -> str:
    text = text_in(fields, "text", ())
    if text is None:
        raise Misfit("a message needs its 'text'")
    with at(("text",)):
        return checked_text(text, max_text_chars)


def _intent(fields: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Intent and full response key. A key may stand in the intent ("faq/ask_x") or beside it, with or without it."""
    name, key = text_in(fields, "intent", ()), text_in(fields, "response_key", ())
    if name is None:
        if key is not None:
            raise Misfit("a response_key without an intent", ("response_key",))
        return None, None
    with at(("intent",)):
        intent, own_key = split_intent(name)
    if key is None:
        return intent, own_key
    with at(("response_key",)):
        found = split_intent(key if "/" in key else f"{intent}/{key}")
    if found[0] != intent or own_key not in (None, found[1]):
        raise Misfit(f"response_key {key!r} does not belong to intent {name!r}", ("response_key",))
    return found


def _entities(fields: Mapping[str, Any], text: str) -> tuple[Entity, ...]:
    """In the order of their places; two of them are apart, or on the very same place."""
    values = fields.get("entities")
    if values is None:
        return ()
    if not isinstance(values, list):
        raise Misfit(f"'entities' must be a list, found {kind(values)}", ("entities",))
    read = sorted((_entity(value, text, ("entities", i)), i) for i, value in enumerate(values))
    for (one, _), (other, i) in pairwise(read):
        if other.start < one.end and other[:2] != one[:2]:
            what = f"{other.entity!r} ({other.start} to {other.end}) and {one.entity!r} ({one.start} to {one.end})"
            raise Misfit(f"entities overlap: {what}", ("entities", i))
    return tuple(one for one, _ in read)


def _entity(value: Any, text: str, path: Path) -> Entity:
    fields = fields_of(value, (*SPAN, *ENTITY_FIELDS), path, "an entity")
    start, end = (_offset(fields, name, path) for name in SPAN)
    if not 0 <= start < end <= len(text):
        raise Misfit(f"an entity from {start} to {end}, in a text of {len(text)} characters", (*path, "start"))
    return entity_at(fields, (start, end), text[start:end], path)


def _offset(fields: Mapping[str, Any], name: str, path: Path) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Misfit(f"an entity needs {name!r} as a whole number, found {kind(value)}", (*path, name))
    return value
