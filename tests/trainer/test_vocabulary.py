"""A vocabulary only appends: names keep their ids whatever comes later."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import CheckpointError
from trainer.vocabulary import Vocabulary

ROUNDS = st.lists(st.lists(st.text(max_size=4)), max_size=6)


def grown(rounds: list[list[str]]) -> Vocabulary:
    vocabulary = Vocabulary()
    for names in rounds:
        vocabulary = vocabulary.add("label", names)
    return vocabulary


@given(ROUNDS, st.lists(st.text(max_size=4)))
def test_ids_never_move(rounds: list[list[str]], more: list[str]) -> None:
    before = grown(rounds)
    after = before.add("label", more)
    assert after.names("label")[: len(before.names("label"))] == before.names("label")
    assert after.block_sizes("label")[: len(before.block_sizes("label"))] == before.block_sizes("label")
    assert {name: after.ids("label")[name] for name in before.ids("label")} == before.ids("label")


@given(ROUNDS)
def test_each_name_has_one_id_in_sorted_blocks(rounds: list[list[str]]) -> None:
    vocabulary = grown(rounds)
    assert sorted(vocabulary.names("label")) == sorted({name for names in rounds for name in names})
    assert list(vocabulary.ids("label").values()) == list(range(sum(vocabulary.block_sizes("label"))))
    assert all(list(block) == sorted(block) for block in vocabulary.blocks.get("label", ()))


@given(st.lists(st.text(max_size=4)), st.randoms())
def test_the_order_in_which_names_are_found_does_not_matter(names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Vocabulary().add("label", shuffled) == Vocabulary().add("label", names)


@given(ROUNDS)
def test_plain_lists_and_back(rounds: list[list[str]]) -> None:
    vocabulary = grown(rounds).add("word", ["b", "a"])
    assert Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary


def test_nothing_new_is_the_same_vocabulary() -> None:
    vocabulary = Vocabulary().add("label", ["a", "b"])
    assert vocabulary.add("label", ["b"]) is vocabulary


def test_kinds_are_apart() -> None:
    vocabulary = Vocabulary().add("label", ["a"]).add("word", ["x", "a"])
    assert vocabulary.names("word") == ("a", "x")
    assert vocabulary.names("label") == ("a",)
    assert vocabulary.names("entity") == ()


@pytest.mark.parametrize("plain", [{"label": [["a"], ["a"]]}, {"label": [["a", 1]]}])
def test_a_damaged_one_is_refused(plain: dict[str, list[list[object]]]) -> None:
    with pytest.raises(CheckpointError, match="label"):
        Vocabulary.from_dict(plain)
