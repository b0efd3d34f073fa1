"""What messages count in the loss, by how many there are of their label."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.ledger import Replay, Round, Shard
from trainer.tasks.nlu.labels import STANDS_FOR, rebalanced
from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.task import NLU, NluSettings
from trainer.vocabulary import Vocabulary

DATA = [
    *(Message(f"hi {word}", "greet") for word in ("there", "you", "all", "Anna")),
    Message("pay Anna", "pay"),
    Message("when do you open", "faq", "faq/hours"),
    Message("where are you", "faq", "faq/place"),
    Message("what is this"),
]
SHARD = Shard(key="a.jsonl", size=1, sha256="", labels={"greet": 4, "pay": 1, "faq/hours": 1, "faq/place": 1, "": 1})


def task_in(*shards: Shard, replay: tuple[Replay, ...] = ()) -> NLU:
    task = NLU()
    task.settings = NluSettings(width=8, hidden=8, dropout=0.0, feature_dropout=0.0)
    old = {label: len(picks) for one in replay for label, picks in (one.picks or {}).items()}
    task.round = Round(number=1, settings={}, window_bytes=1, shards=shards, replay=replay, old_labels=old)
    return task


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 10**6), min_size=1))
def test_rare_labels_count_more_and_all_messages_one_in_the_mean(counts: dict[str, int]) -> None:
    weights = rebalanced({name: (num, num) for name, num in counts.items()})
    assert sum(weights[name] * num for name, num in counts.items()) == pytest.approx(sum(counts.values()))
    assert sorted(counts, key=lambda name: (counts[name], name)) == sorted(weights, key=lambda n: (-weights[n], n))


def test_messages_that_were_drawn_stand_for_all_of_their_label() -> None:
    """A label weighs the same in a round, whether its messages are new or a few were drawn of as many."""
    weights = rebalanced({"new": (100, 100), "old": (20, 100), "rare": (2, 10_000)})
    assert 100 * weights["new"] == pytest.approx(20 * weights["old"])
    assert 2 * weights["rare"] == pytest.approx(100 * weights["new"] * (STANDS_FOR * 2 / 100) ** 0.5)


def test_messages_count_by_the_numbers_of_the_round() -> None:
    """New examples and old ones that are trained along; an intent has the messages of all its responses."""
    old = Replay(shard=SHARD, picks={"pay": (0, 3, 5)})
    weights = task_in(SHARD, replay=(old,)).collate(DATA, vocabulary_of(DATA), None).inputs.weights
    greet, pay, faq = (weights["intent"][place].item() for place in (0, 4, 5))
    assert greet == pytest.approx(pay)
    assert faq == pytest.approx(2**0.5 * greet)
    assert weights["response"][5:7].tolist() == [1.0, 1.0]


def test_the_loss_does_not_depend_on_how_a_step_is_cut() -> None:
    task, vocabulary = task_in(SHARD), vocabulary_of(DATA)
    torch.manual_seed(0)
    net = task.build(vocabulary).train()
    whole = task.loss(net, task.collate(DATA, vocabulary, None)).item()
    parts = [task.loss(net, task.collate(DATA[cut], vocabulary, None)).item() for cut in (slice(3), slice(3, None))]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def vocabulary_of(data: list[Message]) -> Vocabulary:
    return task_in().grow(Vocabulary(), [], data)
