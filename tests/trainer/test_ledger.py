"""The ledger: its lines mean what was written, and old rounds are streamed."""

import json
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import CheckpointError
from trainer.heading import EXTENT
from trainer.ledger import COUNTS, NUM_HELD_OUT, Ledger, Replay, Round, Shard

keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
labels = st.dictionaries(st.text(max_size=4), st.integers(0, 10**9), max_size=3)
shards = st.builds(
    Shard,
    key=keys,
    size=st.integers(0, 2**40),
    sha256=st.just("d" * 64),
    version=st.text(max_size=5),
    split=st.sampled_from(["train", "eval"]),
    num_read=st.integers(0, 100),
    num_examples=st.integers(0, 100),
    labels=labels,
    bad=st.lists(st.tuples(st.integers(0, 99), st.text(max_size=5)), max_size=2).map(tuple),
    held_out=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    keys=st.none() | st.lists(st.text(max_size=4), max_size=3).map(tuple),
    new=st.none() | st.lists(st.integers(0, 99), max_size=3).map(tuple),
)


def through_json(round: Round) -> Ledger:
    """As a file would bring it back."""
    text = [json.dumps(line) for line in round.to_lines()]
    return Ledger().with_round(lambda: (json.loads(line) for line in text))


@given(st.lists(shards, max_size=6, unique_by=lambda shard: shard.key), st.lists(st.text(max_size=4)))
def test_a_round_comes_back_from_its_lines(found, brought):
    replay = tuple(Replay(shard=shard, picks={"a": (1, 5)}) for shard in found[:2])
    round = Round(
        number=1,
        settings={"epochs": 3},
        window_bytes=7,
        labels=tuple(brought),
        removed=("gone",),
        shards=tuple(sorted(found, key=lambda shard: shard.sort_key)),
        replay=tuple(sorted(replay, key=lambda replay: replay.shard.sort_key)),
    )
    assert through_json(round).round(1) == round


@given(st.lists(st.lists(shards, max_size=5, unique_by=lambda shard: shard.key), max_size=4))
def test_known_is_the_newest_state_of_every_shard_sorted_by_key(found):
    ledger = Ledger()
    for number, new in enumerate(found, 1):
        round = Round(number=number, settings={}, window_bytes=1, shards=tuple(new))
        ledger = ledger.with_round(round.to_lines)
    newest = {shard.key: shard for shard in chain.from_iterable(found)}
    known = list(ledger.known())
    assert [shard.key for shard in known] == sorted(newest, key=str.encode)
    assert {shard.key: shard for shard in known} == newest


def test_evaluation_keeps_the_round_that_first_saw_a_shard_and_its_newest_state():
    def round_of(number: int, *found: Shard, removed: tuple[str, ...] = ()) -> Round:
        return Round(number=number, settings={}, window_bytes=1, shards=found, removed=removed)

    old, new = (Shard(key="eval/a", size=size, sha256="x", split="eval") for size in (1, 2))
    other = Shard(key="eval/b", size=1, sha256="y", split="eval")
    held_out = Shard(key="t", size=1, sha256="z", held_out=(3,))
    ledger = Ledger()
    for round in (round_of(1, old, other, held_out), round_of(2, new), round_of(3, removed=("eval/b",))):
        ledger = ledger.with_round(round.to_lines)
    assert ledger.evaluation() == [(1, new), (1, held_out)]


def test_a_ledger_of_another_round_is_refused():
    round = Round(number=2, settings={}, window_bytes=1)
    with pytest.raises(CheckpointError, match="ledger of round 1"):
        Ledger().with_round(round.to_lines).round(1)


def test_an_edited_shard_that_lost_what_was_held_out_is_evaluated_no_longer():
    before = Shard(key="t", size=1, sha256="x", held_out=(3,))
    after = Shard(key="t", size=2, sha256="y", new=(1,))
    again = Shard(key="t", size=3, sha256="z", held_out=(0,))
    ledger = Ledger()
    for number, shard in enumerate((before, after), 1):
        ledger = ledger.with_round(Round(number=number, settings={}, window_bytes=1, shards=(shard,)).to_lines)
    assert ledger.evaluation() == []
    ledger = ledger.with_round(Round(number=3, settings={}, window_bytes=1, shards=(again,)).to_lines)
    assert ledger.evaluation() == [(1, again)]


@given(st.lists(st.lists(shards, max_size=5, unique_by=lambda shard: shard.key), max_size=3))
def test_headers_tell_which_shards_there_are_as_the_shards_do(found):
    ledger, older, whole = Ledger(), Ledger(), Ledger()
    for number, new in enumerate(found, 1):
        lines = list(Round(number=number, settings={}, window_bytes=1, shards=tuple(new)).to_lines())
        assert lines[0][NUM_HELD_OUT] == sum(bool(shard.held_out) for shard in new)
        ledger = ledger.with_round(lambda lines=lines: iter(lines[:1]))  # nothing but the header is read
        whole = whole.with_round(lambda lines=lines: iter(lines))
        before = {name: value for name, value in lines[0].items() if name not in (*EXTENT, *COUNTS)}
        older = older.with_round(lambda lines=[before, *lines[1:]]: iter(lines))
    extent, every = ledger.extent(), [*chain.from_iterable(found)]
    assert extent == older.extent(), "of a ledger file that is older than these fields"
    train = [shard for shard in every if shard.split == "train"]
    assert extent.num_train == sum(shard.new is None for shard in train)
    assert extent.num_untrained == len(every) - len(train)
    assert extent.last_key == max((shard.key for shard in train), key=str.encode, default="")
    assert whole.evaluation() == older.evaluation(), "though rounds without any are not read"
