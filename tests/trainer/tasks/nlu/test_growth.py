"""DESIGN section 6 for task `nlu`: rounds bring anything in any order, and nothing that was learned moves by it."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer import optim
from trainer.errors import DataError
from trainer.settings import TrainSettings
from trainer.state import TrainState, grown, new_state
from trainer.tasks.nlu.labels import LabelHead, Told
from trainer.tasks.nlu.messages import Entity, Lookup, Message, Regex, Resource, Response, Synonym
from trainer.tasks.nlu.replies import answer_texts
from trainer.tasks.nlu.scores import Prediction
from trainer.tasks.nlu.tags import synonyms
from trainer.tasks.nlu.task import NLU, NluSettings
from trainer.vocabulary import Vocabulary

LEARNING_RATE = 0.02
TRAIN = TrainSettings(learning_rate=LEARNING_RATE, weight_decay=0.0)
CPU = torch.device("cpu")
WORDS = ("pay", "Anna", "ten", "pounds", "to", "hi", "zip", "12345", "paris", "öl")
NAMES = st.sampled_from(["a", "b", "c"])


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """A message of a few words, of which one may be an entity with or without role and group, and any labels."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
    intent = draw(st.none() | NAMES)
    key = f"{intent}/{draw(NAMES)}" if intent and draw(st.booleans()) else None
    entity = Entity(0, len(words[0]), draw(NAMES), draw(st.none() | NAMES), draw(st.none() | NAMES))
    return Message(" ".join(words), intent, key, (entity,) if draw(st.booleans()) else ())


TABLES = st.sampled_from(WORDS).map(lambda word: Lookup(word, word))  # a known table's new element is meant to act
RESOURCES = st.builds(Regex, NAMES, st.sampled_from(["[0-9]+", "p.*"])) | TABLES
ROUNDS = st.lists(
    st.tuples(st.lists(messages(), min_size=1, max_size=4), st.lists(RESOURCES, max_size=2)), min_size=2, max_size=4
)


def small_task(architecture: Literal["bag", "diet"] = "bag") -> NLU:
    task = NLU()
    task.settings = NluSettings(width=8, hidden=8, architecture=architecture)
    return task


def train(task: NLU, state: TrainState, data: Sequence[Message], steps: int) -> None:
    state.net.train()
    for _ in range(steps):
        state.optimizer.zero_grad()
        torch.autograd.backward(task.loss(state.net, task.collate(data, state.vocabulary, None)) / len(data))
        optim.set_learning_rate(state.optimizer, LEARNING_RATE)
        state.optimizer.step()


def predicted(task: NLU, state: TrainState, data: Sequence[Message]) -> list[Prediction]:
    state.net.eval()
    with torch.no_grad():
        return task.predict(state.net, task.collate(data, state.vocabulary, None))


def logits(task: NLU, state: TrainState, data: Sequence[Message]) -> dict[str, Tensor]:
    """Of every kind of labels, (n, labels), and of tags, (n, L, tags)."""
    net: Any = state.net.eval()
    batch = task.collate(data, state.vocabulary, None).inputs
    with torch.no_grad():
        states = net(batch)
        return {**states.logits, **{layer: head.emissions(states.tokens) for layer, head in net.tags.items()}}


def moments(state: TrainState) -> dict[str, dict[str, Tensor]]:
    return optim.named_state(state.optimizer.state_dict(), state.net)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names in `before` whose tensors are other ones in `after`."""
    return [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]


@settings(max_examples=8)
@given(st.sampled_from(["bag", "diet"]), ROUNDS)
def test_growth_moves_nothing_that_was_learned(
    architecture: Literal["bag", "diet"], rounds: list[tuple[list[Message], list[Resource]]]
) -> None:
    task, old = small_task(architecture), [Message("hi there", "a"), Message("how late", "b")]
    state = new_state(task, task.grow(Vocabulary(), [], old), TRAIN, CPU)
    train(task, state, old, 3)
    for data, resources in rounds:
        vocabulary = task.grow(state.vocabulary, [], [*resources, *data])
        larger = grown(state, task, vocabulary, TRAIN)
        assert changed(state.net.state_dict(), larger.net.state_dict()) == []
        for name, kept in moments(state).items():
            assert changed(kept, moments(larger)[name]) == []
        check_outputs(task, state, larger, old)
        state, old = larger, [*old, *data]
        train(task, state, old, 3)


def check_outputs(task: NLU, before: TrainState, after: TrainState, old: Sequence[Message]) -> None:
    """Old labels and tags have the logits they had, in the same order; no new one is said of an old message."""
    found = logits(task, after, old)
    for kind, expected in logits(task, before, old).items():
        same = found[kind][..., : expected.shape[-1]]
        torch.testing.assert_close(same, expected, atol=1e-5, rtol=0)
        assert torch.equal(same.argsort(stable=True), expected.argsort(stable=True))
    for one, other in zip(predicted(task, before, old), predicted(task, after, old), strict=True):
        assert one.intent == other.intent
        assert one.entities == other.entities or not before.vocabulary.names("entity")


def test_messages_without_any_annotation_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        small_task().grow(Vocabulary(), [], [Message("hi"), Regex("zip", "[0-9]+")])


def test_pairs_and_long_runs_enter_when_two_messages_have_them() -> None:
    told = [Message("pay Anna", "pay"), Message("please pay Bob", "ask")]
    names = set(small_task().grow(Vocabulary(), [], told).names("feature"))
    assert {"word:anna", "word:pay", "char: pay", "char:an"} <= names
    assert not {"pair:pay anna", "char:anna"} & names


def test_words_are_rare_that_one_message_of_their_first_round_has() -> None:
    task = small_task()
    first = task.grow(Vocabulary(), (), [Message("pay Bob Bob", "pay"), Message("pay ann", "pay")])
    assert {"is:bob", "begins:bo", "is:ann"} <= set(first.names("rare"))
    assert not {"is:pay", "begins:p", "case:title", "form:Aa"} & set(first.names("rare"))
    second = task.grow(first, (), [Message("pay eve", "pay"), Message("send cy", "pay"), Message("send bob", "pay")])
    assert {*second.names("rare")} - {*first.names("rare")} >= {"is:eve", "is:cy"}
    assert not {"is:send", "is:pay"} & set(second.names("rare"))


def test_a_lone_intent_is_learned_and_said(caplog: pytest.LogCaptureFixture) -> None:
    known = small_task().grow(Vocabulary(), [], [Message("hi", "greet"), Message("hello", "greet")])
    assert "'greet' is the only intent so far" in caplog.messages[0]
    caplog.clear()
    assert small_task().grow(known, [], [Message("bye", "leave")]).names("intent") == ("greet", "leave")
    faq = [Message("when?", "faq", "faq/hours"), Message("where?", "faq", "faq/place")]
    small_task().grow(Vocabulary(), [], [*faq, Response("faq/hours", "8"), Response("faq/place", "here")])
    small_task().grow(Vocabulary(), [], [Message("Anna", None, None, (Entity(0, 4, "person"),))])
    assert not caplog.messages, "a lone retrieval intent may be meant, and entities need none"


def test_more_entity_types_than_can_be_learned_are_refused() -> None:
    told = [Message("x", "a", None, (Entity(0, 1, f"type{i:05}"),)) for i in range(10_000)]
    with pytest.raises(DataError, match=r"10,000 entity names, more than 500, such as type09997, .* value taken for"):
        small_task().grow(Vocabulary(), [], [*told, Message("y", "b")])


def test_synonyms_and_answers_can_return_to_what_they_were() -> None:
    told = [Message("when?", "faq", "faq/hours"), Message("hi", "greet")]
    vocabulary = Vocabulary()
    for value in ("A", "B", "A", "A", "B", "A\x1e"):
        resources = [Synonym("Nyc", value), Response("faq/hours", value)]
        vocabulary = small_task().grow(vocabulary, [], [*resources, *told])
        assert synonyms(vocabulary) == {"nyc": value.replace("\x1e", " ")}
        assert answer_texts(vocabulary) == {"faq/hours": value.replace("\x1e", " ")}
    assert len(vocabulary.names("synonym")) == 5, "what is said again unchanged brings nothing"


def test_nothing_at_all_is_a_batch_too() -> None:
    task = small_task()
    vocabulary = task.grow(Vocabulary(), [], [Message("hi", "greet"), Message("pay", "pay")])
    assert task.predict(task.build(vocabulary).eval(), task.collate([], vocabulary, None)) == []


def test_new_rows_do_not_race_ahead() -> None:
    task = small_task()
    first = [Message("pay Anna", "pay"), Message("hi there", "greet", None, (Entity(3, 8, "place"),))]
    state = new_state(task, task.grow(Vocabulary(), [], first), TRAIN, CPU)
    train(task, state, first, 150)
    second = [Message("book a room", "book", "book/room", (Entity(5, 6, "number", "r", "g"),)), *first]
    larger = grown(state, task, task.grow(state.vocabulary, [], second), TRAIN)
    new = {name: tensor.clone() for name, tensor in larger.net.named_parameters() if name not in state.net.state_dict()}
    assert {name.split(".")[0] for name in new} >= {"embedding", "labels", "tags"}
    for steps in range(1, 13):
        train(task, larger, second, 1)
        for name, tensor in larger.net.named_parameters():
            if name in new:
                assert (tensor - new[name]).abs().max() <= steps * LEARNING_RATE * 1.01


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_an_assistant_learns_in_any_order(order: Sequence[int]) -> None:
    anna, bob = (Entity(4, 8, "name"),), (Entity(4, 7, "name"),)
    parts = [
        [Message("pay Anna ten pounds", "pay", None, anna), Message("pay Bob", "pay", None, bob)],
        [Message("hi there", "greet"), Message("hello", "greet")],
        [Message("when do you open", "faq", "faq/hours"), Message("where are you", "faq", "faq/place")],
    ]
    task, old = small_task(), list[Message]()
    state = new_state(task, task.grow(Vocabulary(), [], parts[order[0]]), TRAIN, CPU)
    for number in order:
        state = grown(state, task, task.grow(state.vocabulary, [], parts[number]), TRAIN)
        old += parts[number]
        train(task, state, old, 60)
    found = predicted(task, state, old)
    assert [(one.intent, one.response_key) for one in found] == [(one.intent, one.response_key) for one in old]
    assert [[span[:3] for span in one.entities] for one in found] == [
        [span[:3] for span in one.entities] for one in old
    ]


def test_a_label_that_vanishes_from_the_data_takes_nothing_over():
    """However long it is not seen, the smoothing of others does not push it up."""
    torch.manual_seed(0)
    head = LabelHead(8, [3])
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
    states, targets = torch.eye(8)[:6].repeat(4, 1), torch.tensor([0, 0, 1, 1, 2, 2] * 4)
    for step in range(1500):
        left = slice(None) if step < 100 else targets < 2
        optimizer.zero_grad()
        told = Told(targets[left], torch.ones(24)[left], torch.zeros(3))
        head.loss(states[left], told, 0.05).backward()
        optimizer.step()
    shares = head.eval()(states).softmax(dim=1)
    assert shares[targets < 2].argmax(dim=1).tolist() == targets[targets < 2].tolist()
    assert shares[targets < 2][:, 2].max() < 0.1
