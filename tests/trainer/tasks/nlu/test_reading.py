"""Every form of shard read from real files: the same messages, whatever they are written in."""

import bz2
import gzip
import lzma
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.tasks.nlu import written
from trainer.errors import BadExample, DataError, NotAShard
from trainer.tasks.nlu.messages import Entity, Lookup, Message, Regex, Response, Synonym
from trainer.tasks.nlu.reading import read

FINANCIAL = Path(__file__).parents[5] / "shared/data/nlu/financial-demo"
PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
RASA = """\
version: "3.1"
nlu:
- intent: book_table
  metadata: {sentiment: neutral}
  examples: |
    - a table in [Rome]{"entity": "city", "role": "place"} for [two](number:2)
    # they also write it like this
    - [tonight]("time") at [Da Enzo][{"entity": "name"}, {"entity": "place", "group": "1"}] \\[please\\]
- intent: faq/ask_hours
  examples:
  - text: |
      when do you open
    metadata: {from: phone}
  - text: "open on [sundays](day)?"
- synonym: "2"
  examples: |
    - a pair
    - Two
- regex: number
  examples: |
    - [0-9]+
- lookup: city
  examples: |
    - Rome
    - Oslo
responses:
  utter_faq/ask_hours:
  - text: From six to eleven.
  - image: hours.png
  - text: |
      Every evening.
  utter_greet:
  - text: Hello!
"""
MESSAGES = [
    Message(
        "a table in Rome for two",
        "book_table",
        None,
        (Entity(11, 15, "city", "place"), Entity(20, 23, "number", value="2")),
    ),
    Message(
        "tonight at Da Enzo [please]",
        "book_table",
        None,
        (Entity(0, 7, "time"), Entity(11, 18, "name"), Entity(11, 18, "place", None, "1")),
    ),
    Message("when do you open", "faq", "faq/ask_hours"),
    Message("open on sundays?", "faq", "faq/ask_hours", (Entity(8, 15, "day"),)),
]
RESOURCES = (
    Regex("number", "[0-9]+"),
    Lookup("city", "Rome"),
    Lookup("city", "Oslo"),
    Response("faq/ask_hours", "From six to eleven."),
    Response("faq/ask_hours", "Every evening."),
    Synonym("Two", "2"),
    Synonym("a pair", "2"),
)


def read_text(folder: Path, name: str, content: str | bytes, max_text_chars: int = 1000) -> "list[Message]":
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read(path, max_text_chars))


def test_all_that_rasa_writes(tmp_path: Path) -> None:
    (tmp_path / "nlu.yml").write_text(RASA)
    found = read(tmp_path / "nlu.yml", 1000)
    assert list(found) == MESSAGES
    assert found.resources == RESOURCES
    assert found.nbytes > len(RASA) / 2


@pytest.mark.parametrize("line_break", ["\r\n", "\r"])
def test_other_line_breaks_and_a_mark(tmp_path: Path, line_break: str) -> None:
    assert read_text(tmp_path, "nlu.YAML", "\ufeff" + RASA.replace("\n", line_break)) == MESSAGES


@given(st.lists(written.messages(), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_every_form_reads_back(tmp_path_factory: pytest.TempPathFactory, messages: list[Message]) -> None:
    folder = tmp_path_factory.mktemp("forms")
    assert read_text(folder, "a.jsonl", written.as_jsonl(messages)) == messages
    assert read_text(folder, "a.yml", written.as_block(messages)) == messages
    assert read_text(folder, "b.yml", written.as_list(messages)) == messages
    plain = [one._replace(entities=()) for one in messages]
    assert read_text(folder, "a.csv", written.as_table(plain)) == plain


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed(tmp_path: Path, suffix: str) -> None:
    assert read_text(tmp_path, f"a.v2.yml{suffix}", PACKERS[suffix](RASA.encode())) == MESSAGES


def test_the_same_messages_as_yaml_and_as_json_lines() -> None:
    if not FINANCIAL.is_dir():
        pytest.skip("needs shared/data")
    for path in sorted(FINANCIAL.glob("split-*/*.yml")):
        assert sorted(read(path, 1000)) == sorted(read(path.with_suffix(".jsonl"), 1000))


def test_a_bad_example_is_bad_each_time_and_the_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"text": ""}\n{"text": "b"}\n')
    found = read(tmp_path / "a.jsonl", 1000)
    assert (len(found), found[0].text, found[2].text) == (3, "a", "b")
    for _ in range(2):
        with pytest.raises(BadExample, match="line 3, column 10: the example is empty"):
            found[1]


def test_the_later_of_two_synonyms_holds(tmp_path: Path) -> None:
    synonym = "- synonym: credit\n  examples: |\n    - Card\n"
    (tmp_path / "a.yml").write_text(f"nlu:\n{synonym}- intent: pay\n  examples: |\n    - my [card](account:debit)\n")
    assert read(tmp_path / "a.yml", 1000).resources == (Synonym("card", "debit"),)


def test_a_file_of_resources_alone(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("nlu:\n- lookup: city\n  examples: |\n    - Rome\n")
    found = read(tmp_path / "a.yml", 1000)
    assert (len(found), found.resources) == (0, (Lookup("city", "Rome"),))


@pytest.mark.parametrize(
    "content",
    [
        "stories:\n- story: happy\n  steps:\n  - intent: greet\n",
        "version: '3.1'\nrules: []\n",
        "intents:\n- greet\nresponses:\n  utter_greet:\n  - text: Hi\n  utter_/u/x:\n  - text: u\nsession_config: {}\n",
        "on: push\njobs:\n  test: &a {runs-on: x}\n  more: *a\n",
        "- a\n- b\n",
        "just words\n",
        "",
        "# nothing\n",
    ],
)
def test_other_yaml_is_no_shard(tmp_path: Path, content: str) -> None:
    with pytest.raises(NotAShard, match="neither nlu: nor responses:"):
        read_text(tmp_path, "a.yml", content)


def test_flows_may_stand_beside_messages(tmp_path: Path) -> None:
    nlu = "nlu:\n- intent: greet\n  examples: |\n    - hi\n"
    (tmp_path / "a.yml").write_text(f"flows:\n  pay:\n    description: Pays.\n{nlu}")
    assert [message.text for message in read(tmp_path / "a.yml", 1000)] == ["hi"]


def test_a_domain_with_answers_is_a_shard(tmp_path: Path) -> None:
    (tmp_path / "domain.yml").write_text("intents: [faq]\nresponses:\n  utter_faq/a:\n  - text: yes\n  utter_b: []\n")
    assert read(tmp_path / "domain.yml", 1000).resources == (Response("faq/a", "yes"),)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yml", "nlu: []".encode("utf-16"), "line 1, column 1: the file is UTF-16 or UTF-32; save it as UTF-8"),
        ("a.csv", "text,category".encode("utf-16-be"), "line 1, column 1: the file is UTF-16 or UTF-32"),
        ("a.jsonl", "{}".encode("utf-32"), "line 1, column 1: the file is UTF-16 or UTF-32"),
        ("a.yml", b"nlu: # caf\xe9", "line 1, column 11: byte 0xE9 is not UTF-8; save the file as UTF-8"),
        ("a.txt", b"hi", "a.txt: expected a name that ends in .yml, .yaml, .jsonl, .csv"),
        ("a.gz", gzip.compress(b"", mtime=0), "a.gz: expected a name"),
    ],
)
def test_what_cannot_be_read_at_all(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_text(tmp_path, name, content)
    assert str(caught.value).startswith(words)


def test_one_bad_byte_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "café"}\n'.encode() + '{"text": "café"}\n'.encode("latin-1"))
    found = read(tmp_path / "a.jsonl", 1000)
    assert found[0].text == "café"
    with pytest.raises(BadExample, match="line 2, column 14: byte 0xE9 is not UTF-8"):
        found[1]


@pytest.mark.parametrize("name", ["a.yml", "a.jsonl", "a.csv"])
def test_a_message_of_a_million_characters(tmp_path: Path, name: str) -> None:
    text = "word" * 300_000 + "]["
    long = Message(text, "greet")
    writers = {"a.yml": written.as_block, "a.jsonl": written.as_jsonl, "a.csv": written.as_table}
    (tmp_path / name).write_text(writers[name]([long]))
    with pytest.raises(BadExample, match="the example has 1,200,002 characters, more than max_text_chars=1000"):
        read(tmp_path / name, 1000)[0]
    assert read(tmp_path / name, 2_000_000)[0] == long


def test_ten_thousand_intents(tmp_path: Path) -> None:
    messages = [Message(f"example {i}", f"intent_{i}") for i in range(10_000)]
    assert read_text(tmp_path, "a.yml", written.as_block(messages)) == messages
