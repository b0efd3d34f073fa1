"""The census: what it counts, what it refuses, what it holds out."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.toy import Toy
from trainer.census import (
    CensusRules,
    against_earlier,
    check_bad_examples,
    content_share,
    take_census,
    usable_indices,
)
from trainer.errors import BadExample, DataError, SettingError
from trainer.ledger import Shard

FOUND = Shard(key="x.jsonl", size=1, sha256="d")


class Examples(list):
    """A sequence in which None is a bad example."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        if example is None:
            raise BadExample(f"line {index + 1}: no JSON")
        return example


def census(examples, rules=None, **found):
    shard = Shard(key="x.jsonl", size=1, sha256="d", **found)
    return take_census(Toy(), Examples(examples), shard, rules or CensusRules(), lambda: None)


def point(label: str, name: str, x: float = 0.0) -> dict[str, object]:
    return {"x": [x] * 6, "y": label, "id": name}


def test_examples_and_labels_are_counted():
    shard = census([point("b", "1"), point("a", "2"), point("b", "3")])
    assert (shard.num_read, shard.num_examples, shard.labels) == (3, 3, {"a": 1, "b": 2})
    assert shard.keys is not None
    assert len(set(shard.keys)) == 3


def test_a_bad_example_names_shard_line_reason_and_the_way_out():
    with pytest.raises(DataError, match=r"x\.jsonl: line 2: no JSON; .*--on_bad_example skip"):
        census([point("a", "1"), None])


@pytest.mark.parametrize(
    ("example", "text"),
    [({"x": 1}, r"example 1: KeyError: 'y'"), (None, "line 2: no JSON"), ([1], "example 1: AttributeError: 'list'")],
)
def test_what_a_task_chokes_on_is_a_bad_example(example, text):
    with pytest.raises(DataError, match=rf"x\.jsonl: {text}"):
        census([point("a", "1"), example])


@pytest.mark.parametrize("method", ["label", "key"])
def test_a_label_or_key_that_is_no_text_is_refused_at_once(method, monkeypatch):
    monkeypatch.setattr(Toy, method, lambda self, example: 7)
    with pytest.raises(SettingError, match=rf"task Toy: {method}\(\) returned 7, expected a str or None"):
        census([point("a", "1")])


def test_bad_examples_may_be_passed_over_up_to_a_number():
    rules = CensusRules(on_bad_example="skip", max_bad_examples=1)
    one = census([None, point("a", "1")], rules)
    assert one.bad == ((0, "line 1: no JSON"),)
    assert usable_indices(one).tolist() == [1]
    assert check_bad_examples([one], rules) == 1
    with pytest.raises(DataError, match=r"2 bad examples, more than --max_bad_examples 1; the first: x\.jsonl: line 1"):
        check_bad_examples([one, one], rules)


def test_an_empty_shard_is_refused():
    with pytest.raises(DataError, match=r"x\.jsonl: holds no examples"):
        census([])


def test_a_stop_gets_through():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_census(Toy(), Examples([point("a", "1")]), FOUND, CensusRules(), stop)


def test_what_is_held_out_depends_on_the_content_alone():
    rules = CensusRules(eval_fraction=0.3)
    examples = [point("a", str(number), float(number)) for number in range(200)]
    together = census(examples, rules)
    held = {json.dumps(examples[index]) for index in together.held_out}
    apart = [census([example], rules) for example in examples if json.dumps(example) in held]
    assert 30 < len(held) < 90
    assert all(shard.held_out == (0,) and shard.num_examples == 0 for shard in apart)
    assert sum(together.held_out_labels.values()) == len(held)
    assert together.num_examples == 200 - len(held)


def test_evaluation_shards_hold_nothing_out():
    assert census([point("a", "1")] * 50, CensusRules(eval_fraction=0.9), split="eval").held_out == ()


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True), st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)
)
def test_of_an_edited_shard_the_unseen_keys_are_new(before, after):
    earlier = census([point("a", name) for name in before]) if before else FOUND
    examples = [point("l" + name, name) for name in after]
    edited = against_earlier(Toy(), examples, census(examples), earlier)
    assert [after[index] for index in edited.new or ()] == [name for name in after if name not in before]
    assert edited.num_vanished == len(set(before) - set(after))
    assert edited.old_labels() == {"l" + name: 1 for name in sorted(after) if name in before}


def test_without_keys_an_edited_shard_cannot_be_told_apart():
    examples = [{"x": [0.0] * 6, "y": "a"}]
    shard = census(examples)
    assert shard.keys is None
    with pytest.raises(DataError, match=r"x\.jsonl: changed, and its examples have no keys"):
        against_earlier(Toy(), examples, shard, shard)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(plain, plain)
def test_other_content_has_another_share(one, other):
    assert 0 <= content_share(one) < 1
    if repr(one) != repr(other):
        assert content_share(one) != content_share(other)


def test_arrays_and_tensors_are_told_apart_by_type_and_shape():
    zeros = np.zeros(4, np.uint8)
    shares = {content_share(value) for value in (zeros, zeros.reshape(2, 2), zeros.astype(np.int8), [0] * 4, b"\0" * 4)}
    assert len(shares) == 5
    assert content_share(torch.zeros(4, dtype=torch.uint8)) == content_share(zeros)
