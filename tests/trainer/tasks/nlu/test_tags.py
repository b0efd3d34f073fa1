"""Tags of entities: there and back without loss, and sensible where annotations and tokens do not fit."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from trainer.tasks.nlu.messages import Entity
from trainer.tasks.nlu.tags import LAYERS, num_tags, synonyms, to_entities, to_tags
from trainer.tasks.nlu.tokens import tokenize
from trainer.vocabulary import Vocabulary

NAMES = {"entity": ("amount", "city"), "role": ("from", "to"), "group": ("1", "2", "3")}
IDS = {layer: {name: i for i, name in enumerate(names)} for layer, names in NAMES.items()}


def tagged(text: str, *entities: Entity) -> dict[str, list[int]]:
    return {layer: to_tags(tokenize(text), entities, layer, IDS[layer]) for layer in LAYERS}


def read(text: str, tags: dict[str, list[int]], values: dict[str, str] | None = None) -> tuple[Entity, ...]:
    return to_entities(text, tokenize(text), tags, NAMES, values or {})


def entity(text: str, part: str, name: str, role: str | None = None, group: str | None = None) -> Entity:
    start = text.index(part)
    return Entity(start, start + len(part), name, role, group)


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, tuple[Entity, ...]]:
    """A text of words and entities over whole words, some side by side."""
    lengths = draw(st.lists(st.integers(1, 3), max_size=6))
    text, entities = "", []
    for length in lengths:
        words = " ".join(draw(st.sampled_from(["pay", "10.50", "New", "São", "东", "$"])) for _ in range(length))
        if draw(st.booleans()):
            names = (draw(st.sampled_from([*NAMES[layer], *[None] * (layer != "entity")])) for layer in LAYERS)
            entities.append(Entity(len(text), len(text) + len(words), *names))
        text += words + draw(st.sampled_from([" ", "  ", " - "]))
    return text, tuple(entities)


@given(annotated())
def test_entities_come_back_as_they_were(example: tuple[str, tuple[Entity, ...]]) -> None:
    text, entities = example
    tags = tagged(text, *entities)
    assert all(len(tags[layer]) == len(tokenize(text)) for layer in LAYERS)
    assert all(max(tags[layer], default=0) < num_tags(len(NAMES[layer])) for layer in LAYERS)
    assert read(text, tags) == entities


def test_tags_are_bilou_and_new_names_come_behind() -> None:
    text = "from New York City to Rome"
    entities = (entity(text, "New York City", "city", "from"), entity(text, "Rome", "city", "to"))
    assert tagged(text, *entities) == {
        "entity": [0, 5, 6, 7, 0, 8], "role": [0, 1, 2, 3, 0, 8], "group": [0] * 6
    }  # fmt: skip


def test_a_border_within_a_token_takes_the_whole_token() -> None:
    text = "send 100usd now"
    tags = tagged(text, Entity(5, 8, "amount"))
    assert read(text, tags) == (Entity(5, 11, "amount"),)


def test_of_two_entities_in_one_token_the_first_has_it() -> None:
    text = "send 100usd now"
    tags = tagged(text, Entity(8, 11, "city"), Entity(5, 8, "amount"))
    assert read(text, tags) == (Entity(5, 11, "amount"),)


def test_entities_without_a_token_and_names_never_trained_are_left_out() -> None:
    text = "go  to Rome"
    assert tagged(text, Entity(2, 4, "city"), Entity(7, 11, "planet"))["entity"] == [0, 0, 0]


@given(st.lists(st.integers(0, 8), min_size=4, max_size=4))
def test_any_tags_are_read_as_entities_in_order(tags: list[int]) -> None:
    text = "a bb ccc dddd"
    entities = read(text, {"entity": tags})
    places = [range(one.start, one.end) for one in entities]
    assert all(before.stop <= after.start for before, after in pairwise(places))
    inside = [any(token.start in place for place in places) for token in tokenize(text)]
    assert inside == [tag != 0 for tag in tags]


def test_role_and_group_are_those_of_most_tokens() -> None:
    tags = {"entity": [1, 2, 3], "role": [1, 5, 7], "group": [0, 0, 0]}
    assert read("a b c", tags) == (Entity(0, 5, "amount", "to", None),)


def test_synonyms_give_values_in_any_case_and_the_last_one_wins() -> None:
    vocabulary = Vocabulary().add("synonym", ["NYC\tNew York"]).add("synonym", ["nyc\tNew York City"])
    values = synonyms(vocabulary)
    assert read("to Nyc", {"entity": [0, 8]}, values) == (Entity(3, 6, "city", value="New York City"),)
    assert read("to Rome", {"entity": [0, 8]}, values) == (Entity(3, 7, "city"),)
