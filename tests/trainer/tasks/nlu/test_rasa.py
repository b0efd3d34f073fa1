"""Rasa's YAML: what each fault is called, and where it is said to be."""

import time

import pytest

from tests.trainer.tasks.nlu.faults import said
from trainer.tasks.nlu.messages import Message, Regex, Response
from trainer.tasks.nlu.rasa import read_rasa

GREET = "nlu:\n- intent: greet\n  examples: |\n"
EXAMPLES = """\
    - hi
    -
    - go to [Rome](city
      - further in [](x)

    no dash
    # a comment
    -ok [you]{"entity": "who"}
    - [a]{"entityy": "b"}
"""


def test_every_line_of_a_block_has_its_place() -> None:
    expected = [
        "line 5, column 6: the example is empty",
        "line 6, column 19: the annotation does not end with ')'; put a backslash before a bracket that stands for "
        "itself",
        "line 7, column 20: an annotation of nothing",
        "line 9, column 5: a line of examples must begin with '-'",
        "line 12, column 11: unknown name 'entityy' in an entity; did you mean 'entity'?",
    ]
    assert said(read_rasa, GREET + EXAMPLES) == expected
    assert said(read_rasa, (GREET + EXAMPLES).replace("\n", "\r\n")) == expected
    texts = [one.text for one in read_rasa(GREET + EXAMPLES, 100) if isinstance(one, Message)]
    assert texts == ["hi", "ok you"]


@pytest.mark.parametrize("header", ["|", "|-", "|2  # with a comment", "|\n\n"])
def test_every_block_counts_from_its_first_line(header: str) -> None:
    text = f"nlu:\n- intent: a\n  examples: {header}\n    - b\u2028c\n    - [x](\n"
    line = 5 + header.count("\n")
    (fault,) = said(read_rasa, text)
    assert fault.startswith(f"line {line}, column 10: the annotation does not end")


@pytest.mark.parametrize(
    ("text", "column"), [("'ab [q](c'", 18), ('"ab [q](c"', 18), ("ab [q](c", 17), ('"\\x61b [q](c"', 11)]
)
def test_a_listed_text_has_its_place(text: str, column: int) -> None:
    """Of one with escapes, that where it begins."""
    (fault,) = said(read_rasa, f"nlu:\n- intent: a\n  examples:\n  - text: {text}\n  - text: ok\n")
    assert fault.startswith(f"line 4, column {column}: the annotation does not end")


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ("- hello", "line 2, column 3: expected an item of nlu as a mapping, found 'hello'"),
        ("- [a]", "line 2, column 3: expected an item of nlu as a mapping, found a list"),
        ("- intend: a", "line 2, column 3: unknown name 'intend' in an item of nlu; did you mean 'intent'?"),
        (
            "- intent: a\n  exampels: x",
            "line 3, column 3: unknown name 'exampels' in an item of nlu; did you mean 'examples'?",
        ),
        ("- examples: x", "line 2, column 3: expected one of intent, synonym, regex, lookup, found none"),
        (
            "- intent: a\n  regex: b",
            "line 2, column 3: expected one of intent, synonym, regex, lookup, found intent and regex",
        ),
        ("- intent: a\n  intent: b", "line 3, column 3: 'intent' is there twice"),
        ("- intent: a", "line 2, column 11: intent 'a' has no examples"),
        ("- lookup: a\n  examples: |\n    # none", "line 2, column 11: lookup 'a' has no examples"),
        ("- intent: a\n  examples:", "line 3, column 12: examples: expected a text, found nothing"),
        ("- intent:\n  examples: |\n    - x", "line 2, column 10: intent: expected a text, found nothing"),
        ("- intent: [a]\n  examples: |\n    - x", "line 2, column 11: intent: expected a text, found a list"),
        ("- intent: ' '\n  examples: |\n    - x", "line 2, column 11: the intent has no name"),
        (
            "- intent: a/b/c\n  examples: |\n    - x",
            "line 2, column 11: intent 'a/b/c': expected NAME or, for a retrieval intent, NAME/KEY",
        ),
        ("- intent: a\n  examples: {b: c}", "line 3, column 13: examples: expected a text, found a mapping"),
        (
            "- intent: a\n  examples: >\n    - x\n    - y",
            "line 3, column 13: '>' makes one line of all examples; write 'examples: |'",
        ),
        (
            "- intent: a\n  examples:\n  - x",
            "line 4, column 5: expected {text: ...}, found 'x'; write 'examples: |' above plain lines",
        ),
        ("- intent: a\n  examples:\n  - text: [x]", "line 4, column 11: text: expected a text, found a list"),
        ("- intent: a\n  examples:\n  - {metadata: x}", "line 4, column 5: an example needs its 'text'"),
        (
            "- intent: a\n  examples:\n  - text: x\n    meta: x",
            "line 5, column 5: unknown name 'meta' in an example; did you mean 'metadata'?",
        ),
        ("- intent: &a x\n  examples: *a", "line 3, column 13: examples: expected a text, found an alias (*a)"),
        (
            "- intent: !!python/name:os.system x\n  examples: |\n    - x",
            "line 2, column 11: intent: expected a text, found a tag (tag:yaml.org,2002:python/name:os.system)",
        ),
        (
            "- regex: a\n  examples: |\n    - [0-9",
            "line 4, column 7: is no regular expression: unterminated character set",
        ),
        (
            "- regex: a\n  examples: |\n    - x(y",
            "line 4, column 8: is no regular expression: missing ), unterminated subpattern",
        ),
        (
            "- regex: a\n  examples: |\n    - a{99999999999999999999}",
            "line 4, column 7: is no regular expression: the repetition number is too large",
        ),
    ],
)
def test_faults_of_items(items: str, words: str) -> None:
    text = f"nlu:\n{items}\n- regex: last\n  examples: |\n    - z\n"
    assert said(read_rasa, text) == [words]
    assert Regex("last", "z") in list(read_rasa(text, 100)), "the others are read all the same"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nlu: 3", "line 1, column 6: nlu: expected a list, found '3'"),
        (
            "nlu: []\nfoo: 1",
            "line 2, column 1: unknown name 'foo' in a file of training data; expected nlu, responses,",
        ),
        ("nlu: []\nnlu: []", "line 2, column 1: 'nlu' is there twice"),
        ("nlu: []\n? [a]\n: b", "line 2, column 3: a file of training data: expected a text, found a list"),
        ("NLU: []", "line 1, column 1: unknown section 'NLU'; did you mean 'nlu'?"),
        ("version: '3.1'\nrespones: {}", "line 2, column 1: unknown section 'respones'; did you mean 'responses'?"),
        ("version: '1.0'\nnlu: []", "line 1, column 10: version: expected 2.x or 3.x, found '1.0'"),
        ("version: '2.0'\nnlu: []\n---\nnlu: []", "line 4, column 1: a second document begins; keep one in a file"),
        ("nlu: [a", "line 1, column 8: is no valid YAML: did not find expected ',' or ']'"),
        (
            "nlu:\n\t- intent: a",
            "line 2, column 1: is no valid YAML: a tab; found character that cannot start any token",
        ),
        ("nlu: '\x07'", "line 1, column 7: the character U+0007 may not be in a YAML file"),
        ("nlu: *a", "line 1, column 6: nlu: expected a list, found an alias (*a)"),
        ("[" * 100_000, "line 1, column 101: is nested too deeply"),
        ("nlu: " + "{a: " * 100_000, "line 1, column 402: is nested too deeply"),
        ("- " * 100_000, "line 1, column 201: is nested too deeply"),
    ],
)
def test_what_cannot_be_read_at_all(text: str, words: str) -> None:
    (fault,) = said(read_rasa, text)
    assert fault.startswith(f"all: {words}")


def test_a_bomb_of_aliases_costs_nothing() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
    start = time.monotonic()
    assert said(read_rasa, bomb + "nlu:\n- intent: a\n  examples: *a39\n")[0].startswith(
        "all: line 1, column 1: unknown"
    )
    assert said(read_rasa, bomb)[0].startswith("NotAShard")
    nested = bomb.replace("\n", "\n  ")
    text = f"nlu:\n- intent: a\n  metadata:\n    {nested.replace('  ', '    ')}\n  examples: |\n    - hi\n"
    assert list(read_rasa(text, 100)) == [Message("hi", "a")]
    assert time.monotonic() - start < 5


def test_responses() -> None:
    text = """\
responses:
  utter_faq/a:
  - text: x
    buttons: [{title: y, payload: z}]
    condition: *later
  - image: y
  - text: [a]
  - foo
  faq/b:
  - text: x
  utter_faq/:
  - text: g
  utter_faq/c: text
  utter_hello: whatever
"""
    assert said(read_rasa, text) == [
        "line 7, column 11: text: expected a text, found a list",
        "line 8, column 5: expected a response as a mapping, {text: ...}, found 'foo'",
        "line 9, column 3: a response is called utter_NAME, found 'faq/b'",
        "line 11, column 3: intent 'faq/': expected NAME or, for a retrieval intent, NAME/KEY",
        "line 13, column 16: utter_faq/c: expected a list, found 'text'",
    ]
    assert [one for one in read_rasa(text, 100) if isinstance(one, Response)] == [Response("faq/a", "x")]


def test_names_that_yaml_takes_for_something_else() -> None:
    text = "nlu:\n- intent: yes\n  examples: |\n    - ja\n- intent: 007\n  examples:\n  - text: no\n  - text: 1.50\n"
    assert list(read_rasa(text, 100)) == [Message("ja", "yes"), Message("no", "007"), Message("1.50", "007")]
