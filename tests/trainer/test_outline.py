"""A round is found out again from its shards, and only taken when it says what it said."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import CheckpointError, DataError
from trainer.ledger import Ledger, Round, Shard
from trainer.outline import Outline
from trainer.plan import next_round
from trainer.settings import TrainSettings

SETTINGS = TrainSettings(replay=0.5)


def shard(key: str, num: int, version: str = "") -> Shard:
    bad = ((num, "line 3: no JSON"),)
    labels = {"a": num}
    return Shard(
        key=key, size=num, sha256=key, version=version, num_read=num + 1, num_examples=num, labels=labels, bad=bad
    )


def formed(ledger: Ledger, *shards: Shard, removed: tuple[str, ...] = ()) -> Round:
    round = next_round(ledger, shards, removed, SETTINGS, 1000)
    assert round is not None
    return round


FIRST = formed(Ledger(), shard("a", 5), shard("b", 3))
LEDGER = Ledger((FIRST.to_lines,))
SECOND = formed(LEDGER, shard("c", 4), removed=("b",))


@pytest.mark.parametrize(("round", "ledger"), [(FIRST, Ledger()), (SECOND, LEDGER)])
def test_the_same_shards_give_the_same_round_under_other_settings_of_today(round: Round, ledger: Ledger) -> None:
    outline = Outline.from_dict(vars(Outline.of(round)))
    again = [replace(one, version="another", bad=((one.num_read - 1, "other words"),)) for one in round.shards]
    today = TrainSettings(replay=3.0, batch_size=7, epochs=99)
    found = outline.rebuilt(ledger, again, today)
    assert (found.settings, found.labels, found.removed) == (round.settings, round.labels, round.removed)
    assert [part.picks for part in found.replay] == [part.picks for part in round.replay]
    assert Outline.of(found).sha256 == outline.sha256


def test_a_setting_that_came_later_had_no_effect_on_the_round() -> None:
    round = formed(LEDGER, replace(shard("c", 4), labels={"b": 4}))
    before = replace(round, settings={name: one for name, one in round.settings.items() if name != "new_label_replay"})
    found = Outline.of(before).rebuilt(LEDGER, round.shards, TrainSettings(new_label_replay=3.0))
    assert found == before
    assert (found.labels, found.num_old) == (("b",), 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: replace(one, sha256="other"),
        lambda one: replace(one, num_examples=1, labels={"a": 1}),
        lambda one: replace(one, bad=()),
        lambda one: replace(one, split="eval"),
    ],
)
def test_other_content_is_refused(change: Callable[[Shard], Shard]) -> None:
    with pytest.raises(DataError, match="edited since"):
        Outline.of(SECOND).rebuilt(LEDGER, [change(one) for one in SECOND.shards], SETTINGS)


@given(st.sets(st.text(max_size=9)), st.sets(st.text(max_size=9)))
def test_members_are_told_from_others_by_their_fingerprints(own: set[str], others: set[str]) -> None:
    outline = Outline.of(replace(FIRST, shards=tuple(shard(key, 1) for key in own)))
    assert outline.members(sorted(own | others)) == sorted(own)
    assert outline.shards.dtype == torch.int64


def test_what_is_no_outline_is_refused() -> None:
    with pytest.raises(CheckpointError, match="rounds: "):
        Outline.from_dict({"number": 1})
