r"""Examples with their entities written into them, as Rasa's users do.

    send [ten dollars](amount) from [my card](account:credit) to [Rome]{"entity": "city", "role": "destination"}

The forms are `[text](entity)`, `[text](entity:value)`, `[text]{"entity": ..., "role": ..., "group": ..., "value": ...}`
and `[text][{...}, {...}]` for several entities on one place. A bracket with a backslash before it stands for itself.
"""

import re

from trainer.tasks.nlu.checks import checked_name
from trainer.tasks.nlu.messages import Entity
from trainer.tasks.nlu.objects import ENTITY_FIELDS, Misfit, decode, entity_at, fields_of, placed
from trainer.tasks.nlu.places import Fault, moved

_BRACKETS = r"[\[\](){}]"
_ESCAPE = re.compile(rf"\\({_BRACKETS})")
_PIECE = re.compile(
    rf"\\{_BRACKETS}"  # a bracket that stands for itself
    rf"|\[((?:[^\[\]\\]|\\{_BRACKETS}|\\(?!{_BRACKETS}))*)\](?=[(\[{{])"  # what an annotation is about
    r"|\](?=[(\[{])"  # the end of one that has no beginning
)
_ROUND = re.compile(rf"\(((?:[^()\\]|\\{_BRACKETS}|\\(?!{_BRACKETS}))*)\)")
_FIELDS = (*ENTITY_FIELDS, "start", "end")
"""Converters leave a place among an annotation's fields; the brackets say where it is."""
_ESCAPING = "put a backslash before a bracket that stands for itself"


def parse_annotated(raw: str) -> tuple[str, tuple[Entity, ...]]:
    """The plain text and its entities, whose offsets refer to it; Fault with the index in `raw` where it is wrong."""
    pieces: list[str] = []
    entities: list[Entity] = []
    length = done = 0
    while found := _PIECE.search(raw, done):
        before = raw[done : found.start()]
        length += len(before)
        if found[0] == "]":
            raise Fault(
                f"']' ends no annotation that began before it; they cannot be nested; {_ESCAPING}", found.start()
            )
        if found[1] is None:
            plain, done = found[0][1], found.end()
        else:
            plain = _ESCAPE.sub(r"\1", found[1])
            own, done = _annotation(raw, found, (length, length + len(plain)), plain)
            entities += own
        pieces += (before, plain)
        length += len(plain)
    return "".join([*pieces, raw[done:]]), tuple(entities)


def _annotation(raw: str, found: re.Match[str], span: tuple[int, int], surface: str) -> tuple[list[Entity], int]:
    """The entities that one annotation says, and the index behind it."""
    if not surface.strip():
        raise Fault("an annotation of nothing", found.start())
    if raw[found.end()] == "(":
        return _round(raw, found.end(), span, surface)
    start = found.end()
    try:
        value, end = decode(raw, start)
    except Fault as fault:
        raise Fault(f"the annotation {fault}; {_ESCAPING}", fault.index) from fault
    with placed(raw, start, end):
        if isinstance(value, dict):
            return [entity_at(fields_of(value, _FIELDS, (), "an entity"), span, surface, ())], end
        if not value:
            raise Misfit(f"the annotation is empty; {_ESCAPING}")
        many = [(fields_of(one, _FIELDS, (i,), "an entity"), i) for i, one in enumerate(value)]
        return [entity_at(fields, span, surface, (i,)) for fields, i in many], end


def _round(raw: str, start: int, span: tuple[int, int], surface: str) -> tuple[list[Entity], int]:
    """`(entity)`, `("entity")` or `(entity:value)`."""
    found = _ROUND.match(raw, start)
    if found is None:
        raise Fault(f"the annotation does not end with ')'; {_ESCAPING}", start)
    name, colon, value = found[1].partition(":")
    with moved((start + 1).__add__):
        entity = checked_name(_unquoted(_ESCAPE.sub(r"\1", name).strip()), "entity")
    value = _ESCAPE.sub(r"\1", value)
    return [Entity(*span, entity, value=None if not colon or value == surface else value)], found.end()


def _unquoted(name: str) -> str:
    is_quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "\"'"
    return name[1:-1] if is_quoted else name
