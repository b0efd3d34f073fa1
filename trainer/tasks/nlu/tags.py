"""Entities as one tag per token, and back: BILOU tags, in a layer each for entity, role and group.

The tag of a token is 0 outside of all names, else 4 * name + 1, 2, 3 or 4 where the name's span begins, goes on, ends
(its last token), or is this token alone. New names get new tags behind all others, so that no tag ever moves.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from trainer.tasks.nlu.messages import Entity
from trainer.tasks.nlu.stands_for import pair
from trainer.tasks.nlu.tokens import Token
from trainer.vocabulary import Vocabulary

LAYERS = ("entity", "role", "group")
"""The layers of tags, by the kind of their names in the vocabulary and the field of an entity."""
OUTSIDE, BEGIN, INSIDE, LAST, UNIT = range(5)
TAGS_PER_NAME = 4
MAX_NAMES = 500
"""Of a layer. A transition is learned from every tag to every other: with n names, 16 n^2 numbers."""


def num_tags(num_names: int) -> int:
    """How many tags a layer has."""
    return 1 + TAGS_PER_NAME * num_names


def to_tags(tokens: Sequence[Token], entities: Iterable[Entity], layer: str, ids: Mapping[str, int]) -> list[int]:
    """The tags of a message in one layer; `ids` are those of its names, and other names are left outside.

    An entity that begins or ends within a token has the whole token; of two that share one the first has it.
    """
    tags, free = [OUTSIDE] * len(tokens), 0
    for entity in sorted(entities, key=lambda entity: (entity.start, entity.end)):
        place = [i for i in range(free, len(tokens)) if tokens[i].start < entity.end and tokens[i].end > entity.start]
        if place:
            free = place[-1] + 1
            name = ids.get(getattr(entity, layer) or "")
            tags[place[0] : free] = [OUTSIDE] * len(place) if name is None else _bilou(len(place), name)
    return tags


def to_entities(
    text: str,
    tokens: Sequence[Token],
    tags: Mapping[str, Sequence[int]],
    names: Mapping[str, Sequence[str]],
    values: Mapping[str, str],
) -> tuple[Entity, ...]:
    """The entities that tags spell, with the role and the group that most of their tokens have, if any.

    `tags` and `names` are by layer; those of role and group may be missing. `values` is what `synonyms` returns.
    """
    entities = []
    for first, last, name in _spans(tags["entity"]):
        start, end = tokens[first].start, tokens[last].end
        role, group = (_most(tags.get(layer, ())[first : last + 1], names.get(layer, ())) for layer in LAYERS[1:])
        value = values.get(text[start:end].casefold())
        entities.append(Entity(start, end, names["entity"][name], role, group, value))
    return tuple(entities)


def synonyms(vocabulary: Vocabulary) -> dict[str, str]:
    """The value of each surface (case folded), from names "surface TAB value"; the last one wins."""
    pairs = map(pair, vocabulary.names("synonym"))
    return {surface.casefold(): value for surface, value in pairs}


def _bilou(length: int, name: int) -> list[int]:
    parts = [UNIT] if length == 1 else [BEGIN, *[INSIDE] * (length - 2), LAST]
    return [TAGS_PER_NAME * name + part for part in parts]


def _part(tag: int) -> tuple[int, int]:
    """What a tag says: the name's id and the part of its span; (-1, OUTSIDE) outside."""
    name, part = divmod(tag - 1, TAGS_PER_NAME)
    return (name, part + 1) if tag else (-1, OUTSIDE)


def _spans(tags: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """First token, last token and name of each span; one that is not begun or ended properly counts none the less."""
    start = 0
    parts = [*map(_part, tags), (-1, OUTSIDE)]
    for i, (name, part) in enumerate(parts[:-1]):
        if i == 0 or part in (BEGIN, UNIT) or name != parts[i - 1][0] or parts[i - 1][1] in (LAST, UNIT):
            start = i
        following, its_part = parts[i + 1]
        ends = part in (LAST, UNIT) or following != name or its_part in (BEGIN, UNIT)
        if part != OUTSIDE and ends:
            yield start, i, name


def _most(tags: Sequence[int], names: Sequence[str]) -> str | None:
    """The name that most of the tags have, the first of them where several have; None where all are outside."""
    found = Counter(_part(tag)[0] for tag in tags if tag != OUTSIDE)
    return names[found.most_common(1)[0][0]] if found else None
