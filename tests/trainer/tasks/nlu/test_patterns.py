"""Regexes of users: those that end are taken, those that may never end are refused."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.tasks.nlu.patterns import checked_pattern
from trainer.tasks.nlu.places import Fault

GOOD = [
    r"[0-9]+", r"(\d{1,3},)*\d{3}", r"\d{1,3}(,\d{3})*(\.\d+)?", r"[\w.+-]+@[\w-]+\.[\w.-]+", r"(\d{4}[- ]?){3}\d{4}",
    r"(cat|car)+", r"(?i)\bhelp\b", r"[A-Z]{2}\d{2}(\s?\d{4}){4,7}", r"https?://(\w+\.)+\w+(/\S*)?", r"(\w+ )*\w+",
    r"^\s*$", r"((\d+)[.,])+", r"(?<=a)b+", r"(a)\1", r"\[(.*?)\]", r"(\d\d?:\d\d)+", r"([A-Z][a-z]+\s)*[A-Z][a-z]+",
    r"(?:one|two|three|four|five)+", r"(\w|\d)+x", r"(?:a++)+", r"(?>a+)+b", r"(?:day|days) ago",
    r"(ab|a)*", r"([а-я]+ )*", r"(\d+[年月日])+", r"(?:\d{1,3},?){2}",
]  # fmt: skip
SLOW = [
    r"(a+)+$", r"(\w+\s?)*$", r"(a|aa)+$", r"(.*)*x", r"(\s*\w+)*!", r"(\d{1,3},?)*x", r"([a-zA-Z]+)*$", r"(\w?\w)*x",
    r"((a*)b?)*c", r"(x+x+)+y", r"(?:(?:a+)+)b", r"(.+?)+z", r"(a+){10,}b", r"(?i)([a-z]+[A-Z])*1", r"(a|b|ab)*c",
    r"(?:(a)|\w)*b", r"(?=(a+)+$)", r"(?(1)a|(b+)+)", r"([а-я]+а)*!", r"(\w+中)*!", r"([^а-я]+中)*!", r"(\w+\s?){4,9}x",
]  # fmt: skip


@pytest.mark.parametrize("pattern", GOOD)
def test_what_ends_is_taken(pattern: str) -> None:
    assert checked_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", SLOW)
def test_what_may_never_end_is_refused(pattern: str) -> None:
    with pytest.raises(Fault, match="may take forever on some messages"):
        checked_pattern(pattern)


PARTS = st.recursive(
    st.sampled_from(["a", "b", r"\w", "[ab]", "[^a]", "."]),
    lambda part: (
        st.tuples(part, st.sampled_from(["*", "+", "?", "{2,9}", "+?"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}")
        | st.tuples(part, part).map("".join)
        | st.tuples(part, part).map(lambda pair: f"(?:{pair[0]}|{pair[1]})")
    ),
    max_leaves=4,
)


@given(PARTS, st.text("ab", min_size=1, max_size=3))
def test_whatever_is_taken_ends(pattern: str, text: str) -> None:
    try:
        checked_pattern(pattern)
    except Fault:
        return
    started = time.process_time()
    re.search(f"(?:{pattern})#", text * 14)
    assert time.process_time() - started < 1.0
