"""JSON objects in shards: messages and entities, each field of its kind, no field unknown."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from trainer.tasks.nlu.checks import check_encoding, checked_name, unknown
from trainer.tasks.nlu.marked import index_of
from trainer.tasks.nlu.messages import Entity
from trainer.tasks.nlu.places import Fault

Path = Sequence[str | int]
ENTITY_FIELDS = ("entity", "role", "group", "value")
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')


class Misfit(ValueError):
    """What is wrong with the value at a path of names and numbers, or with the name `key` of the object there."""

    def __init__(self, what: str, path: Path = (), key: str | None = None) -> None:
        super().__init__(what)
        self.path = path
        self.key = key


@contextmanager
def placed(text: str, start: int, end: int) -> Iterator[None]:
    """A Misfit of the JSON value `text[start:end]` becomes a Fault with its index in the text."""
    try:
        yield
    except Misfit as misfit:
        raise Fault(str(misfit), start + index_of(text[start:end], misfit.path, misfit.key)) from misfit


@contextmanager
def at(path: Path) -> Iterator[None]:
    """A Fault in the value at a path is a Misfit of the whole."""
    try:
        yield
    except Fault as fault:
        raise Misfit(str(fault), path) from fault


def decode(text: str, start: int = 0) -> tuple[Any, int]:
    """The JSON value that begins at an index, and the index behind it. A name twice, NaN or a deep nest is a Fault."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise Fault(f"is no JSON: {error.msg}", error.pos) from error
    except RecursionError:
        raise Fault("is no JSON: nested too deeply", start) from None
    except ValueError as error:
        places = (match.start(1) for match in _CONSTANT.finditer(text, start) if match[1])
        raise Fault(f"is no JSON: {str(error).partition(':')[0]}", next(places, start)) from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


class _Twice(dict[str, Any]):
    """An object with a name that is there twice: `fields_of` says so, where the place is known."""

    name: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    names = [name for name, _ in pairs]
    twice = _Twice(fields)
    twice.name = next(name for name in names if names.count(name) > 1)
    return twice


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_object)


def fields_of(value: Any, known: Sequence[str], path: Path, what: str) -> Mapping[str, Any]:
    """An object whose names are all known."""
    if not isinstance(value, dict):
        raise Misfit(f"expected {what} as an object, {{...}}, found {kind(value)}", path)
    if isinstance(value, _Twice):
        raise Misfit(f"{value.name!r} is there twice", path, value.name)
    for name in value:
        if name not in known:
            raise Misfit(unknown("name", name, known, f" in {what}"), path, name)
    return value


def text_in(fields: Mapping[str, Any], name: str, path: Path) -> str | None:
    """A text, or None where there is none."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise Misfit(f"{name!r} must be a text, found {kind(value)}", (*path, name))
    return value


def name_in(fields: Mapping[str, Any], name: str, path: Path) -> str | None:
    """A name, one line of text, or None where there is none."""
    value = text_in(fields, name, path)
    with at((*path, name)):
        return None if value is None else checked_name(value, name)


def entity_at(fields: Mapping[str, Any], span: tuple[int, int], surface: str, path: Path) -> Entity:
    """The entity that an object says is at a span of a message; `value` is None where it is what stands there."""
    entity = name_in(fields, "entity", path)
    if entity is None:
        raise Misfit("an entity needs its type, 'entity'", path)
    value = text_in(fields, "value", path)
    with at((*path, "value")):
        check_encoding(value or "")
    role, group = name_in(fields, "role", path), name_in(fields, "group", path)
    return Entity(*span, entity, role, group, None if value == surface else value)


def kind(value: Any) -> str:
    """What a JSON value is, for messages."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"
