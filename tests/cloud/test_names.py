"""Names are integers, not text: 10 comes after 9, and nothing that only looks like one is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud import names
from cloud.names import CheckpointName

NUMBER = st.integers(0, 10**15 - 1)


@given(NUMBER, NUMBER, st.none() | NUMBER)
def test_every_name_is_parsed_back(attempt: int, epoch: int, step: int | None) -> None:
    name = CheckpointName(attempt, epoch, step)
    assert CheckpointName.parse(str(name)) == name
    assert names.writing_attempt(name.object_key) == names.writing_attempt(name.record_key) == attempt


def test_numbers_decide_the_order() -> None:
    texts = ["ckpt_100-a1", "ckpt_9-a2", "ckpt_10-a2", "ckpt_10_9-a2", "ckpt_10_10-a2", "ckpt_1-a10"]
    parsed = [CheckpointName.parse(text) for text in reversed(texts)]
    assert [str(name) for name in sorted((n for n in parsed if n), key=lambda name: name.order)] == texts


@pytest.mark.parametrize(
    "text",
    ["ckpt_020-a7", "ckpt_20-a07", "ckpt_20", "old_ckpt_20-a7", "ckpt_20-a7x", "ckpt_20-a7\n", "ckpt_２0-a7",
     "ckpt_-1-a7", "ckpt_20_-a7", "ckpt_1_2_3-a7", "CKPT_20-a7", "ckpt_20-a", f"ckpt_1-a{10**15}",
     "sub/ckpt_20-a7", ""],
)  # fmt: skip
def test_other_names_are_none_of_ours(text: str) -> None:
    assert CheckpointName.parse(text) is None


def test_foreign_names() -> None:
    assert names.foreign_epoch("ckpt_12.pth") == names.foreign_epoch("ckpt_best_12.pth") == 12
    for key in (
        "old_ckpt_99.pth",
        "ckpt_12.pth.tmp",
        "ckpt_12-a1.pth",
        "sub/ckpt_12.pth",
        "ckpt_best.pth",
        "ckpt_１.pth",
    ):
        assert names.foreign_epoch(key) is None


def test_keys_say_whose_they_are() -> None:
    assert names.claimed_attempt(names.attempt_key(7)) == names.claimed_attempt(names.attempt_key(7, "ab12")) == 7
    assert names.claimed_attempt(names.attempt_key(1_234_567)) == 1_234_567
    assert names.claimed_attempt("attempts/0000007.json") is None
    assert names.claimed_attempt("attempts/7.json") is None
    for key in (names.life_key(7), names.metrics_key(7), names.ledger_key(2, 7)):
        assert names.writing_attempt(key) == 7
        assert names.claimed_attempt(key) is None
    for key in ("model/config.json", "report.html", "ckpt_12.pth", "config.json"):
        assert names.writing_attempt(key) is None
