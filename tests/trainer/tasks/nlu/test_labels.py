"""What messages count in the loss, and where their labels stand in it, by how many there are of each."""

from dataclasses import replace
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.ledger import Replay, Round, Shard
from trainer.tasks.nlu.labels import MARGIN, STANDS_FOR, LabelHead, Told, margins_of, rebalanced
from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.renames import applied, parse
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
    labels = task_in(SHARD, replay=(old,)).collate(DATA, vocabulary_of(DATA), None).inputs.labels
    greet, pay, faq = (labels["intent"].weights[place].item() for place in (0, 4, 5))
    assert greet == pytest.approx(pay)
    assert faq == pytest.approx(2**0.5 * greet)
    assert labels["response"].weights[5:7].tolist() == [1.0, 1.0]


def test_only_labels_that_were_drawn_are_held_down_in_training() -> None:
    """By how few of their messages were drawn: afterwards they stand as much higher beside the new ones."""
    margins = margins_of({"new": (100, 100), "old": (20, 100), "rare": (2, 10_000)})
    assert margins == {"new": 0.0, "old": MARGIN * log(0.2), "rare": -MARGIN * log(STANDS_FOR)}
    vocabulary = vocabulary_of(DATA)
    old = Replay(shard=SHARD, picks={"pay": (0,)})
    task = task_in(replay=(old,))
    assert task.round is not None
    task.round = replace(task.round, old_labels={"pay": 4}, labels=("faq/a",))
    renamed = applied(vocabulary, parse("pay=transfer"), {})
    for known in (vocabulary, renamed):
        found = task.collate(DATA, known, None).inputs.labels["intent"].margins
        assert found.tolist() == pytest.approx([0.0, 0.0, -MARGIN * log(4)]), "faq, greet, pay or transfer"
    task.round = replace(task.round, labels=())
    found = task.collate(DATA, vocabulary, None).inputs.labels["intent"].margins
    assert not found.any(), "no label is new that could be said too often"


def test_a_label_that_is_held_down_comes_out_higher() -> None:
    """Two labels that the same message has equally often."""
    head, states = LabelHead(1, [2]), torch.zeros(2, 1)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        head.loss(states, Told(torch.tensor([0, 1]), torch.ones(2), torch.tensor([-1.5, 0.0])), 0.0).backward()
        optimizer.step()
    logits = head(states)[0]
    assert (logits[0] - logits[1]).item() == pytest.approx(1.5, abs=0.01)


def test_the_loss_does_not_depend_on_how_a_step_is_cut() -> None:
    task, vocabulary = task_in(SHARD), vocabulary_of(DATA)
    torch.manual_seed(0)
    net = task.build(vocabulary).train()
    whole = task.loss(net, task.collate(DATA, vocabulary, None)).item()
    parts = [task.loss(net, task.collate(DATA[cut], vocabulary, None)).item() for cut in (slice(3), slice(3, None))]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def vocabulary_of(data: list[Message]) -> Vocabulary:
    return task_in().grow(Vocabulary(), [], data)
