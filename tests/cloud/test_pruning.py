"""What stays: the rule itself, without a store."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.pruning import Keeping, continued
from cloud.records import FileDigest, Record

NOT_A_NUMBER = -1.0  # as a user's own score may be, though no record holds one


def record(attempt: int, epoch: int, step: int | None = None, score: float | None = None) -> Record:
    name = f"ckpt_{epoch}{'' if step is None else f'_{step}'}-a{attempt}"
    return Record(
        name=name, attempt=attempt, epoch=epoch, global_step=epoch * 100 if step is None else step, round=1,
        whole_epoch=step is None, object=FileDigest(key=f"{name}.pth", size=1, chunks=("a",)), ledgers=(), parent=None,
        metrics={} if score is None else {"accuracy": score}, settings={},
    )  # fmt: skip


def score(one: Record) -> float | None:
    value = one.metrics.get("accuracy")
    return float("nan") if value == NOT_A_NUMBER else value if isinstance(value, float) else None


def kept(records: list[Record], last: int = 2, best: int = 0, every: int = 0) -> list[str]:
    return [one.name for one in Keeping(last=last, best=best, every=every, score=score).of(records)]


def test_the_newest_whole_epochs_stay_and_the_newest_two_of_any_kind() -> None:
    records = [record(1, 4, 450), record(1, 4, 420), record(1, 4), record(1, 3, 350), record(1, 3), record(1, 2)]
    assert kept(records, last=2) == ["ckpt_4_450-a1", "ckpt_4_420-a1", "ckpt_4-a1", "ckpt_3-a1"]
    assert kept(records, last=0) == ["ckpt_4_450-a1", "ckpt_4_420-a1"]


def test_the_middle_of_an_epoch_goes_once_two_newer_ones_are_there() -> None:
    assert kept([record(1, 5), record(1, 4, 450), record(1, 4)]) == ["ckpt_5-a1", "ckpt_4_450-a1", "ckpt_4-a1"]
    assert kept([record(1, 6), record(1, 5), record(1, 4, 450), record(1, 4)]) == ["ckpt_6-a1", "ckpt_5-a1"]


def test_the_best_and_every_nth_stay() -> None:
    scores = {9: 0.5, 8: 0.6, 7: 0.9, 6: NOT_A_NUMBER, 5: 0.9, 4: None, 3: 0.7, 2: 0.1}
    records = [record(1, epoch, score=value) for epoch, value in scores.items()]
    assert kept(records, best=2) == ["ckpt_9-a1", "ckpt_8-a1", "ckpt_7-a1", "ckpt_5-a1"]
    assert kept(records, best=1) == ["ckpt_9-a1", "ckpt_8-a1", "ckpt_7-a1"]
    assert kept(records, every=3) == ["ckpt_9-a1", "ckpt_8-a1", "ckpt_6-a1", "ckpt_3-a1"]


def test_what_a_later_attempt_did_not_continue_from_goes() -> None:
    """Attempt 2 went back to epoch 3, although attempt 1 had written 4 and, late, 5."""
    records = [record(2, 5), record(2, 4), record(1, 5), record(1, 4), record(1, 3)]
    assert [one.name for one in continued(records)] == ["ckpt_5-a2", "ckpt_4-a2", "ckpt_3-a1"]
    assert kept(records, last=3, every=1) == ["ckpt_5-a2", "ckpt_4-a2", "ckpt_3-a1"]


PLACES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.none() | st.integers(1, 9))


@given(st.sets(PLACES, max_size=12), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
def test_never_fewer_than_asked_for(places: set[tuple[int, int, int | None]], last: int, best: int, every: int) -> None:
    records = sorted(
        (record(a, e, s, float(e * 7 % 5)) for a, e, s in places), key=lambda one: one.place.order, reverse=True
    )
    stay = kept(records, last, best, every)
    assert stay[:2] == [one.name for one in records[:2]]
    whole = [one for one in continued(records) if one.whole_epoch]
    assert {one.name for one in whole[:last]} <= set(stay)
    assert all(one.name in stay for one in whole if every and one.epoch % every == 0)
    assert len([one for one in whole if one.name in stay]) >= min(len(whole), max(last, best))
    assert not [one for one in records[2:] if one.name in stay and not one.whole_epoch]
