"""What is said of a message: the response is always one of the intent that goes with it."""

import pytest
import torch

from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.scores import Prediction
from trainer.tasks.nlu.task import NLU, NluSettings
from trainer.vocabulary import Vocabulary

KNOWN = [
    Message("may I pay by card?", "faq", "faq/card"),
    Message("are you open?", "faq", "faq/hours"),
    Message("how are you?", "chitchat", "chitchat/mood"),
    Message("bye", "bye"),
]


@pytest.fixture
def predicted() -> dict[str, Prediction]:
    """What a network says that prefers `chitchat` and `faq/hours`, by the true name."""
    task = NLU()
    task.settings = NluSettings()
    vocabulary = task.grow(Vocabulary(), [], KNOWN)
    net = task.build(vocabulary).eval()
    with torch.no_grad():
        for kind, name in (("intent", "chitchat"), ("response", "faq/hours")):
            net.get_parameter(f"labels.{kind}.logits.blocks.0.bias")[vocabulary.ids(kind)[name]] = 100.0
        found = task.predict(net, task.collate([*KNOWN, Message("?", "never seen")], vocabulary, None))
    return {one.message.response_key or one.message.intent or "": one for one in found}


def test_a_response_is_one_of_the_intent_that_is_said(predicted: dict[str, Prediction]) -> None:
    assert {(one.intent, one.response_key) for one in predicted.values()} == {("chitchat", "chitchat/mood")}


def test_beside_it_the_likeliest_of_the_true_intent(predicted: dict[str, Prediction]) -> None:
    assert {name: one.response_of_true_intent for name, one in predicted.items()} == {
        "faq/card": "faq/hours",
        "faq/hours": "faq/hours",
        "chitchat/mood": "chitchat/mood",
        "bye": None,
        "never seen": None,
    }
