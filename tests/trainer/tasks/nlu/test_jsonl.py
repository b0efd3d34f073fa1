"""JSON lines: what may be left out, and what each fault is called."""

import json

import pytest

from tests.trainer.tasks.nlu.faults import said
from trainer.tasks.nlu.jsonl import read_jsonl
from trainer.tasks.nlu.messages import Entity, Message


def one(**fields: object) -> Message:
    (message,) = read_jsonl(json.dumps(fields), 100)
    assert isinstance(message, Message), message
    return message


def test_all_but_the_text_may_be_left_out() -> None:
    assert one(text="hi") == Message("hi")
    assert one(text=" hi ", intent=None, response_key=None, entities=None, metadata={"a": [1]}) == Message(" hi ")


@pytest.mark.parametrize(
    "fields",
    [
        {"intent": "faq", "response_key": "faq/ask"},
        {"intent": "faq", "response_key": "ask"},
        {"intent": "faq/ask"},
        {"intent": "faq/ask", "response_key": "faq/ask"},
    ],
)
def test_a_retrieval_intent(fields: dict[str, str]) -> None:
    assert one(text="hi", **fields) == Message("hi", "faq", "faq/ask")


def test_entities_come_in_the_order_of_their_places() -> None:
    places = [(6, 8, "b"), (0, 5, "a"), (6, 8, "a")]
    found = one(text="hello hi", entities=[{"start": s, "end": e, "entity": n, "value": "hi"} for s, e, n in places])
    assert found.entities == (Entity(0, 5, "a", value="hi"), Entity(6, 8, "a"), Entity(6, 8, "b"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x", "column 1: is no JSON: Expecting value"),
        ("[1]", "column 1: expected a message as an object, {...}, found a list"),
        ("{}", "column 1: a message needs its 'text'"),
        ('{"text": null}', "column 1: a message needs its 'text'"),
        ('{"text": " "}', "column 10: the example is empty"),
        ('{"text": "%s"}' % ("x" * 101), "column 10: the example has 101 characters, more than max_text_chars=100"),
        ('{"text": 3}', "column 10: 'text' must be a text, found a number"),
        ('  {"text": "a", "txt": 3}', "column 17: unknown name 'txt' in a message; did you mean 'text'?"),
        ('{"text": "a", "intents": "b"}', "column 15: unknown name 'intents' in a message; did you mean 'intent'?"),
        ('{"text": "a", "text": "b"}', "column 15: 'text' is there twice"),
        ('{"text": "NaN", "intent": NaN}', "column 27: is no JSON: NaN is no number of JSON"),
        ('{"text": "a", "metadata": -Infinity}', "column 27: is no JSON: -Infinity is no number of JSON"),
        ('{"text": "a"} {}', "column 14: one JSON object is a line, and here more follows"),
        ('{"text": "a\\ud800"}', "column 10: U+D800 is half of a character"),
        ('{"text": "a\udcff"}', "column 12: byte 0xFF is not UTF-8; save the file as UTF-8"),
        ('{"text": "a", "intent": ""}', "column 25: the intent has no name"),
        (
            '{"text": "a", "intent": "b\\tc"}',
            "column 25: the name of the intent holds U+0009; it must be one line of text",
        ),
        (
            '{"text": "a", "intent": "a/b/c"}',
            "column 25: intent 'a/b/c': expected NAME or, for a retrieval intent, NAME/KEY",
        ),
        (
            '{"text": "a", "intent": "f", "response_key": "g/h"}',
            "column 46: response_key 'g/h' does not belong to intent 'f'",
        ),
        ('{"text": "a", "response_key": "g/h"}', "column 31: a response_key without an intent"),
        ('{"text": "a", "entities": {}}', "column 27: 'entities' must be a list, found an object"),
        ('{"text": "a", "entities": ["x"]}', "column 28: expected an entity as an object, {...}, found a text"),
        ("[" * 100_000, "column 1: is no JSON: nested too deeply"),
        ('{"a":' * 100_000, "column 1: is no JSON: nested too deeply"),
        ("9" * 5000, "column 1: is no JSON: Exceeds the limit (4300 digits) for integer string conversion"),
    ],
)
def test_faults(line: str, words: str) -> None:
    assert said(read_jsonl, f'{{"text": "a"}}\r\n\n{line}\n{{"text": "b"}}') == [f"line 3, {words}"]


@pytest.mark.parametrize(
    ("entity", "column", "words"),
    [
        ('{"start": 0, "end": 1}', 43, "an entity needs its type, 'entity'"),
        ('{"start": 0, "end": 6, "entity": "x"}', 53, "an entity from 0 to 6, in a text of 5 characters"),
        ('{"start": -1, "end": 2, "entity": "x"}', 53, "an entity from -1 to 2, in a text of 5 characters"),
        ('{"start": 2, "end": 2, "entity": "x"}', 53, "an entity from 2 to 2, in a text of 5 characters"),
        ('{"start": 0, "end": true, "entity": "x"}', 63, "an entity needs 'end' as a whole number, found true"),
        ('{"start": 0.0, "end": 1, "entity": "x"}', 53, "an entity needs 'start' as a whole number, found a number"),
        ('{"end": 1, "entity": "x"}', 43, "an entity needs 'start' as a whole number, found null"),
        ('{"start": 0, "end": 1, "entity": []}', 76, "'entity' must be a text, found a list"),
        ('{"start": 0, "end": 1, "entity": "x", "role": " "}', 89, "the role has no name"),
        ('{"start": 0, "start": 1, "end": 2, "entity": "x"}', 56, "'start' is there twice"),
        (
            '{"start": 0, "end": 2, "entity": "x"}, {"start": 1, "end": 3, "entity": "y"}',
            82,
            "entities overlap: 'y' (1 to 3) and 'x' (0 to 2)",
        ),
        (
            '{"start": 0, "end": 3, "entity": "x"}, {"start": 0, "end": 2, "entity": "y"}',
            43,
            "entities overlap: 'x' (0 to 3) and 'y' (0 to 2)",
        ),
    ],
)
def test_faults_of_entities(entity: str, column: int, words: str) -> None:
    line = f'{{"text": "h\\ud83d\\ude00llo", "entities": [{entity}]}}'
    assert said(read_jsonl, line) == [f"line 1, column {column}: {words}"]
