"""Entities written into examples."""

import pytest

from trainer.tasks.nlu.annotated import parse_annotated
from trainer.tasks.nlu.messages import Entity
from trainer.tasks.nlu.places import Fault


@pytest.mark.parametrize(
    ("raw", "text", "entities"),
    [
        ("no entity", "no entity", ()),
        ("to [Rome](city)", "to Rome", (Entity(3, 7, "city"),)),
        ("[Rome](city) or [Oslo](city)!", "Rome or Oslo!", (Entity(0, 4, "city"), Entity(8, 12, "city"))),
        ("[my card](account:credit)", "my card", (Entity(0, 7, "account", value="credit"),)),
        ("[card](account:card)", "card", (Entity(0, 4, "account"),)),
        ("[at 6](time:18:00)", "at 6", (Entity(0, 4, "time", value="18:00"),)),
        ("[LA](\"city\") ['LA']('city')", "LA 'LA'", (Entity(0, 2, "city"), Entity(3, 7, "city"))),
        (
            '[Rome]{"entity": "city", "role": "to", "group": "1", "value": "roma"}',
            "Rome",
            (Entity(0, 4, "city", "to", "1", "roma"),),
        ),
        ('[Rome]{"entity": "city", "start": 7, "end": 11}', "Rome", (Entity(0, 4, "city"),)),
        ('[Rome]{"entity": "city", "role": null}', "Rome", (Entity(0, 4, "city"),)),
        (
            '[x][{"entity": "a"}, {"entity": "b", "value": "}]"}]',
            "x",
            (Entity(0, 1, "a"), Entity(0, 1, "b", value="}]")),
        ),
        ("\U0001f600 [caf\u00e9](place)", "\U0001f600 caf\u00e9", (Entity(2, 6, "place"),)),
        ("press [enter] (twice)", "press [enter] (twice)", ()),
        ("a [ or ] (b) {c}", "a [ or ] (b) {c}", ()),
        (r"\[Rome\](city) \(x\) \{y\}", "[Rome](city) (x) {y}", ()),
        (r"[a \[b\]](x) C:\dir", r"a [b] C:\dir", (Entity(0, 5, "x"),)),
        (r"[f](call:f\(x\))", "f", (Entity(0, 1, "call", value="f(x)"),)),
        ("[two\nlines](x)", "two\nlines", (Entity(0, 9, "x"),)),
    ],
)
def test_forms(raw: str, text: str, entities: tuple[Entity, ...]) -> None:
    assert parse_annotated(raw) == (text, entities)


@pytest.mark.parametrize(
    ("raw", "index", "words"),
    [
        ("go to [Rome](city", 12, "the annotation does not end with ')'"),
        ("[Rome](a(b)", 6, "the annotation does not end with ')'"),
        ("go [](city)", 3, "an annotation of nothing"),
        ("[  ](city)", 0, "an annotation of nothing"),
        ("[Rome]()", 7, "the entity has no name"),
        ("[Rome](:x)", 7, "the entity has no name"),
        ("[a [b](c) d](e)", 11, "']' ends no annotation that began before it; they cannot be nested"),
        ("[Rome]{}", 6, "an entity needs its type, 'entity'"),
        ("[Rome]{'entity': 'city'}", 7, "the annotation is no JSON: Expecting property name"),
        ('[Rome]{"entity": "city"', 23, "the annotation is no JSON: Expecting ',' delimiter"),
        ('[Rome]{"entity": "city", "rolle": "x"}', 25, "unknown name 'rolle' in an entity; did you mean 'role'?"),
        ('[Rome]{"entity": "city", "role": 3}', 33, "'role' must be a text, found a number"),
        ('[Rome]{"entity": "city", "entity": "x"}', 25, "'entity' is there twice"),
        ('[Rome]{"entity": "city", "value": NaN}', 34, "is no JSON: NaN is no number of JSON"),
        ('[Rome]{"entity": "a\\nb"}', 17, "the name of the entity holds U+000A; it must be one line of text"),
        ('[Rome]{"entity": "city", "value": "\\ud800"}', 34, "U+D800 is half of a character"),
        ("[Rome][]", 6, "the annotation is empty"),
        ('[x][{"entity": "a"}, {"entity": 1}]', 32, "'entity' must be a text, found a number"),
        ("x[0][1]", 5, "expected an entity as an object, {...}, found a number"),
        ("[x]" + "[" * 100_000, 3, "is no JSON: nested too deeply"),
        ("[x](" + "n" * 501 + ")", 4, "the name of the entity has 501 characters, more than 500"),
    ],
)
def test_faults(raw: str, index: int, words: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_annotated(raw)
    assert words in str(caught.value)
    assert caught.value.index == index
