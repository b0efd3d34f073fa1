"""CSV: quoting, the header, and what each fault is called."""

import pytest

from tests.trainer.tasks.nlu.faults import said
from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.table import read_table


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_records(line_break: str) -> None:
    text = 'category, text\ngreet,"hi, ""you"""\n\nfaq/ask,"two\nlines"\ngreet,\u2028 spaces \n'.replace(
        "\n", line_break
    )
    assert list(read_table(text, 100)) == [
        Message('hi, "you"', "greet"),
        Message(f"two{line_break}lines", "faq", "faq/ask"),
        Message("\u2028 spaces ", "greet"),
    ]


def test_an_intent_may_be_called_so() -> None:
    assert list(read_table("text,intent\nhi,greet\n", 100)) == [Message("hi", "greet")]


def test_a_long_text_is_no_fault_of_the_format() -> None:
    assert next(read_table(f"text,category\n{'x' * 200_000},a", 200_000)) == Message("x" * 200_000, "a")


def test_faults_do_not_keep_the_others_back() -> None:
    text = 'text,category\n"a\nb",\n,y\nfoo\na,b,c\n"x""",y\ncaf\udce9,y\nx,a/b/c\nhi,"gre\tet"\n'
    assert said(read_table, text) == [
        "line 3, column 4: the intent has no name",
        "line 4, column 1: the example is empty",
        "line 5, column 4: fields in the record: 1, expected 2",
        "line 6, column 5: fields in the record: 3, expected 2; put a text with a comma in quotes",
        "line 8, column 4: byte 0xE9 is not UTF-8; save the file as UTF-8",
        "line 9, column 3: intent 'a/b/c': expected NAME or, for a retrieval intent, NAME/KEY",
        "line 10, column 4: the name of the intent holds U+0009; it must be one line of text",
    ]
    assert Message('x"', "y") in list(read_table(text, 100))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1, column 1: expected the columns text,category in the first line, found none"),
        ("text\nhi", "line 1, column 1: expected the columns text,category in the first line, found text"),
        ("text,text\nhi", "line 1, column 1: expected the columns text,category in the first line, found text,text"),
        (
            "text;category\nhi;a\n",
            "line 1, column 5: expected the columns text,category with a comma between, found ';'",
        ),
        ("text\tcategory\n", "line 1, column 5: expected the columns text,category with a comma between, found '\\t'"),
        ("text,categories\n", "line 1, column 6: unknown column 'categories'; did you mean 'category'?"),
        (
            'text,category\nhi,greet\n"yes, I do,greet\n',
            "line 3, column 1: is no CSV: unexpected end of data in the record that begins here",
        ),
        (
            'text,category\n"a"b,greet\n',
            "line 2, column 1: is no CSV: ',' expected after '\"' in the record that begins here",
        ),
    ],
)
def test_what_cannot_be_read_at_all(text: str, words: str) -> None:
    assert said(read_table, text) == [f"all: {words}"]
