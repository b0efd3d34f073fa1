"""Flips, forgetting and their bits, against counting by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.comparison import flips, forgetting, named_scores, numbers, packed, unpacked

JUDGED = st.lists(st.tuples(st.booleans(), st.sampled_from([True, False, None])), max_size=200)


@given(st.lists(st.booleans(), max_size=200))
def test_bits_come_back(right: list[bool]) -> None:
    bits = packed(right)
    assert unpacked(bits, len(right)).tolist() == right
    assert len(bits) == 2 * -(-len(right) // 8)


@given(JUDGED)
def test_flips_are_counted_both_ways_over_what_can_be_judged(pairs: list[tuple[bool, bool | None]]) -> None:
    before, now = [was for was, _ in pairs], [is_now for _, is_now in pairs]
    found = flips(before, now)
    judged = [(was, is_now) for was, is_now in pairs if is_now is not None]
    if not judged:
        assert found == {}
        return
    assert found["num_compared"] == len(judged)
    assert found["negative_flips"] == judged.count((True, False))
    assert found["positive_flips"] == judged.count((False, True))
    assert found["negative_flip_rate"] == judged.count((True, False)) / len(judged)


@given(JUDGED.filter(lambda pairs: any(is_now is not None for _, is_now in pairs)))
def test_forgotten_accuracy_is_the_flips_one_way_less_those_the_other(pairs: list[tuple[bool, bool | None]]) -> None:
    judged = [(was, bool(is_now)) for was, is_now in pairs if is_now is not None]
    accuracy = [{"accuracy": sum(column) / len(judged)} for column in zip(*judged, strict=True)]
    found = flips([was for was, _ in pairs], [is_now for _, is_now in pairs])
    lost = found["negative_flip_rate"] - found["positive_flip_rate"]
    assert forgetting(*accuracy)["accuracy"] == pytest.approx(lost)


def test_forgetting_is_told_of_what_is_scored_on_both_sides_and_of_no_loss() -> None:
    before = {"accuracy": 0.75, "loss": 1.0, "tag_loss": 1.0, "gone": 1.0}
    assert forgetting(before, {"accuracy": 0.5, "loss": 2.0, "tag_loss": 2.0, "new": 1.0}) == {"accuracy": 0.25}


def test_scores_have_names_wherever_they_stand() -> None:
    metrics = {
        "accuracy": 0.9, "num_examples": 4, "sure": True, "odd": None, "per_label": {"a": {"f1": 1.0}},
        "old_labels": {"accuracy": 0.8, "num_examples": 3}, "forgetting": {"accuracy": 0.1},
        "flips": {"num_compared": 3, "negative_flips": 1, "negative_flip_rate": 0.25}, "before": {"accuracy": 0.9},
    }  # fmt: skip
    assert numbers(metrics) == {"accuracy": 0.9}
    assert named_scores(metrics) == {
        "accuracy": 0.9, "negative_flips": 1, "negative_flip_rate": 0.25,
        "old_labels.accuracy": 0.8, "forgetting.accuracy": 0.1,
    }  # fmt: skip
