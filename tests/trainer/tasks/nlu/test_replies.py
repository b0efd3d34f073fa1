"""Answers have the form that is promised, whatever there is to say."""

import pytest

from trainer.tasks.nlu.messages import Entity, Message
from trainer.tasks.nlu.replies import answer_texts, message_of, reply
from trainer.tasks.nlu.scores import Prediction
from trainer.vocabulary import Vocabulary

ENTITY = Entity(3, 7, "city", "from", None, "Rome")
KEYS = ["text", "intent", "confidence", "ranking", "entities", "response_key", "answer"]


def test_everything_is_told() -> None:
    prediction = Prediction(
        Message("to Roma"), "faq", 0.5, (("faq", 0.5), ("bye", 0.25)), (ENTITY,), "faq/a", "faq/a", 0.0
    )
    found = reply(prediction, {"faq/a": "Yes."})
    assert found == {
        "text": "to Roma",
        "intent": "faq",
        "confidence": 0.5,
        "ranking": [{"intent": "faq", "confidence": 0.5}, {"intent": "bye", "confidence": 0.25}],
        "entities": [{"start": 3, "end": 7, "entity": "city", "role": "from", "group": None, "value": "Rome"}],
        "response_key": "faq/a",
        "answer": "Yes.",
    }
    assert list(found) == KEYS


def test_what_is_not_known_is_none() -> None:
    found = reply(Prediction(Message("x"), None, 0.0, (), (), None, None, 0.0), {})
    assert list(found) == KEYS
    assert (found["intent"], found["response_key"], found["answer"], found["ranking"]) == (None, None, None, [])
    assert reply(Prediction(Message("x"), "faq", 1.0, (), (), "faq/a", "faq/a", 0.0), {})["answer"] is None


def test_the_first_of_several_texts_answers() -> None:
    vocabulary = Vocabulary().add("answer", ["faq/a\tb text", "faq/a\ta text\twith a tab", "faq/b\tother"])
    assert answer_texts(vocabulary) == {"faq/a": "a text\twith a tab", "faq/b": "other"}
    edited = vocabulary.add("answer", ["faq/a\tnew text"])
    assert answer_texts(edited) == {"faq/a": "new text", "faq/b": "other"}, "what was edited later counts"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "no field `text`"),
        ({"text": 5}, "no field `text`"),
        ({"text": " \t"}, "the text is empty"),
        ({"text": "x" * 11}, "max_text_chars=10"),
        ({"text": "\ud800"}, "half of a character"),
    ],
)
def test_a_request_without_a_usable_text_is_refused(request_: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        message_of(request_, 10)
    assert message_of({"text": "x" * 10, "intent": "ignored"}, 10) == Message("x" * 10)
