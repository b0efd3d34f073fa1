"""The conditions of --promote_if: read, shown, and held against numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.promote import Clause, Measured, parse, reason_against

MEASURED = Measured(
    scores={"accuracy": 0.9, "negative_flip_rate": 0.02, "loss": 0.5, "old_labels.accuracy": 0.88},
    before={"accuracy": 0.91, "loss": 0.4},
    promoted={"accuracy": [0.85, 0.92], "loss": [0.3, 0.9]},
)

CLAUSES = st.builds(
    Clause,
    score=st.sampled_from(["accuracy", "old_labels.f1", "f1-score", "android", "best_of"]),
    sign=st.sampled_from([">=", ">", "<=", "<"]),
    base=st.sampled_from(["best", "before", None]),
    number=st.decimals(-10, 10, places=3).map(float).map(lambda number: number or 0.0),
)


@given(st.lists(CLAUSES, min_size=1, max_size=4))
def test_what_is_shown_is_read_back(clauses: list[Clause]) -> None:
    assert parse(" and ".join(map(str, clauses))) == tuple(clauses)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy>=.5", [Clause(score="accuracy", sign=">=", base=None, number=0.5)]),
        (" accuracy > best-1e-2 ", [Clause(score="accuracy", sign=">", base="best", number=-0.01)]),
        ("loss <= before + 1", [Clause(score="loss", sign="<=", base="before", number=1.0)]),
        ("gain >= -0.5", [Clause(score="gain", sign=">=", base=None, number=-0.5)]),
        ("", []),
    ],
)
def test_spellings(text: str, expected: list[Clause]) -> None:
    assert parse(text) == tuple(expected)


@pytest.mark.parametrize(
    "text",
    [
        "accuracy", "accuracy => 0.9", "accuracy == 0.9", "accuracy >= ", "accuracy >= best - ", ">= 0.9",
        "accuracy >= best * 0.9", "accuracy >= 0.9 or loss < 1", "accuracy >= 0.9 and", "0.5 <= accuracy <= 0.9",
        "accuracy >= nan", "accuracy >= worst", "__import__('os')", "accuracy >= 0.9, loss < 1",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no condition; write a score, one of >= > <= <"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("accuracy >= 0.9", ""),
        ("accuracy > 0.9", "accuracy > 0.9 does not hold: 0.9000 against 0.9000"),
        ("accuracy >= best - 0.02", ""),  # 0.92 - 0.02 is a hair above 0.9
        ("accuracy >= best - 0.01", "accuracy >= best - 0.01 does not hold: 0.9000 against 0.9100"),
        ("accuracy >= before - 0.01", ""),
        ("accuracy >= before", "accuracy >= before does not hold: 0.9000 against 0.9100"),
        ("old_labels.accuracy >= before - 0.03", ""),
        ("loss <= best + 0.2", ""),  # the best loss is the lowest
        ("loss <= best + 0.1", "loss <= best + 0.1 does not hold: 0.5000 against 0.4000"),
        ("loss <= before + 0.1 and accuracy >= 0.5 and negative_flip_rate <= 0.02", ""),
        ("negative_flip_rate <= best", ""),  # nobody has one yet
        ("negative_flip_rate <= before", "there is no such score of the network before the round"),
        ("f1 >= 0.5", "f1 >= 0.5: there is no such score"),
        ("accuracy > 1 and loss < 0.1", "against 1.0000; loss < 0.1 does not hold: 0.5000 against 0.1000"),
    ],
)
def test_every_condition_that_does_not_hold_is_named_with_its_numbers(text: str, reason: str) -> None:
    found = reason_against(parse(text), MEASURED)
    assert found.endswith(reason)
    assert bool(found) == bool(reason)
