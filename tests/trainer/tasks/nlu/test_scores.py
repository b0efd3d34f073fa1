"""Scores agree with scikit-learn's, and with what is counted by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from trainer.tasks.nlu.messages import Entity, Message
from trainer.tasks.nlu.scores import Prediction, scores

WORDS = ("send", "$10,", "to", "(Ann)", "now!")
TEXT = " ".join(WORDS)
STARTS = [TEXT.index(word) for word in WORDS]
TYPES = st.lists(st.sampled_from(["", "amount", "city", "name"]), min_size=len(WORDS), max_size=len(WORDS))
LABELS = st.one_of(st.none(), st.sampled_from(["ant", "bee", "cat"]))


def prediction(
    truth: Message, intent: str | None = None, entities: tuple[Entity, ...] = (), *responses: str | None
) -> Prediction:
    """`responses`: of the intent that is said, of the true one."""
    response_key, of_true_intent = responses or (None, None)
    return Prediction(truth, intent, 0.5, (), entities, response_key, of_true_intent, 1.5)


def spans(types: list[str]) -> tuple[Entity, ...]:
    """One entity per word that has a type."""
    return tuple(
        Entity(start, start + len(word), entity)
        for start, word, entity in zip(STARTS, WORDS, types, strict=True)
        if entity
    )


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30))
def test_intents_and_responses_as_scikit_learn(pairs: list[tuple[str | None, str | None]]) -> None:
    found = scores([prediction(Message("x", true, true), said, (), said, true) for true, said in pairs])
    known = [(true, said or "") for true, said in pairs if true]
    if not known:
        assert found == {"loss": 1.5}
        return
    targets, predicted = zip(*known, strict=True)
    assert found["intent_accuracy"] == pytest.approx(accuracy_score(targets, predicted))
    weighted = f1_score(targets, predicted, average="weighted", zero_division=0)
    assert found["intent_f1_weighted"] == pytest.approx(weighted)
    assert found["response_f1"] == pytest.approx(weighted)
    assert found["response_f1_given_intent"] == 1.0
    present = sorted(set(targets))
    macro = f1_score(targets, predicted, labels=present, average="macro", zero_division=0)
    assert found["intent_f1_macro"] == pytest.approx(macro)
    assert list(found["per_label"]) == present


@given(st.lists(st.tuples(TYPES, TYPES), min_size=1, max_size=10))
def test_tokens_as_scikit_learn(pairs: list[tuple[list[str], list[str]]]) -> None:
    found = scores([prediction(Message(TEXT, None, None, spans(true)), None, spans(said)) for true, said in pairs])
    targets = [entity or "O" for true, _ in pairs for entity in true]
    predicted = [entity or "O" for _, said in pairs for entity in said]
    labels = sorted({*targets, *predicted} - {"O"})
    if set(targets) == {"O"}:
        assert found == {"loss": 1.5}
        return
    weighted = f1_score(targets, predicted, labels=labels, average="weighted", zero_division=0)
    assert found["entity_f1_token"] == pytest.approx(weighted)
    assert found["entity_f1"] == pytest.approx(f1_score(targets, predicted, labels=labels, average="micro"))


def test_an_entity_is_right_where_its_whole_span_is() -> None:
    truth = Message("to New York City today", None, None, (Entity(3, 16, "city"), Entity(17, 22, "date")))
    found = scores([prediction(truth, None, (Entity(3, 11, "city", role="to"), Entity(17, 22, "date", value="22")))])
    assert found["entity_f1"] == 0.5
    assert found["entity_f1_token"] == pytest.approx((0.8 * 3 + 1) / 4)
    assert found["per_entity"]["city"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "num_examples": 1}


def test_a_type_never_in_the_truth_counts_against_the_whole() -> None:
    truth = Message("to York", None, None, (Entity(3, 7, "city"),))
    found = scores([prediction(truth, None, (Entity(0, 2, "name"), Entity(3, 7, "city")))])
    assert found["entity_f1"] == pytest.approx(2 / 3)
    assert list(found["per_entity"]) == ["city"]


def test_several_entities_on_one_place() -> None:
    both = (Entity(3, 7, "city"), Entity(3, 7, "name"))
    found = scores([prediction(Message("to York", None, None, both), None, both)])
    assert found["entity_f1"] == found["entity_f1_token"] == 1.0
    assert set(found["per_entity"]) == {"city", "name"}


def test_scores_are_plain_json() -> None:
    truth = Message("to York", "go", "faq/go", (Entity(3, 7, "city"),))
    found = scores([prediction(truth, "go", (), "faq/stay", "faq/go")])
    assert json.loads(json.dumps(found)) == found
    assert found["loss"] == 1.5
    assert (found["response_f1"], found["response_f1_given_intent"]) == (0.0, 1.0)
    assert scores([]) == {}
