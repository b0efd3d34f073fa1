"""What a token looks like, by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.tasks.nlu.lexical import MAX_WORD_CHARS, lexical_names


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Alice", {"is:alice", "begins:a", "begins:alic", "ends:e", "ends:lice", "case:title", "form:Aa"}),
        ("1,000.50", {"is:0,000.00", "begins:0,00", "ends:0.00", "case:other", "form:0,0.0"}),
        ("2024", {"is:0000", "digits", "form:0", "case:other"}),
        ("iPhone15", {"case:other", "form:aAa0"}),
        ("IBM", {"is:ibm", "case:upper", "form:A"}),
        ("我", {"is:我", "begins:我", "ends:我"}),
    ],
)
def test_words_have_beginnings_ends_case_and_form(word: str, expected: set[str]) -> None:
    assert expected <= {name for name, _ in lexical_names(word)}


@given(st.text(min_size=1, max_size=100))
def test_names_are_distinct_bounded_and_weigh_alike(word: str) -> None:
    names = lexical_names(word)
    assert len({name for name, _ in names}) == len(names) <= 12
    assert all(len(name) <= 3 * MAX_WORD_CHARS + 10 for name, _ in names)  # some letters have several in small
    assert sum(weight**2 for _, weight in names) == pytest.approx(3)
