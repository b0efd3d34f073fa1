"""Tokens: every script, borders where entities end, and no text that takes long."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.tasks.nlu.tokens import tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("What's Alice's balance?", "What|'|s|Alice|'|s|balance|?"),
        ("send $1,000.50 by 12:30, on the 4th", "send|$|1,000.50|by|12:30|,|on|the|4th"),
        ("wait!!! co-worker ...", "wait|!!!|co|-|worker|..."),
        ("write to jo.doe@x.co.uk or https://a.b/c?d=e, now.", "write|to|jo.doe@x.co.uk|or|https://a.b/c?d=e|,|now|."),
        ("my_name [x]{y}", "my_name|[|x|]|{|y|}"),
        ("l’hôtel à Zürich", "l|’|hôtel|à|Zürich"),
        ("cafe\u0301 noir", "cafe\u0301|noir"),
        ("переведи 100 рублей", "переведи|100|рублей"),
        ("हिन्दी में लिखो", "हिन्दी|में|लिखो"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("我想转账100元", "我|想|转|账|100|元"),
        ("น้ำ", "น้|ำ"),
        ("👍🏽 👨‍👩‍👧 ok", "👍🏽|👨‍👩‍👧|ok"),
        (" \n\t ", ""),
    ],
)
def test_tokens_are_what_a_reader_expects(text: str, tokens: str) -> None:
    assert "|".join(token.text for token in tokenize(text)) == tokens


@given(st.text(max_size=60))
def test_every_character_but_white_space_is_in_exactly_one_token(text: str) -> None:
    tokens = tokenize(text)
    assert all(text[token.start : token.end] == token.text for token in tokens)
    places = [place for token in tokens for place in range(token.start, token.end)]
    assert places == sorted(set(places))
    assert "".join(text[place] for place in places) == "".join(text.split())


@pytest.mark.parametrize("unit", ["a.", "a", "1.1", "@", "http://", "\u0301", "1:", "a@", "www.", "漢"])
def test_no_text_takes_long(unit: str) -> None:
    started = time.process_time()
    tokenize(unit * (300_000 // len(unit)))
    assert time.process_time() - started < 5  # a search that starts again at every place would take minutes
