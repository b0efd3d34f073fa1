"""Requests and answers of task `nlu`, as `perdure predict` and the API of Python have them."""

from collections.abc import Mapping
from typing import Any

from trainer.tasks.nlu.checks import checked_text
from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.scores import Prediction
from trainer.tasks.nlu.stands_for import pair
from trainer.vocabulary import Vocabulary

Reply = dict[str, Any]


def message_of(request: Mapping[str, Any], max_text_chars: int) -> Message:
    """The message that a request asks about; ValueError for one without a usable text."""
    text = request.get("text")
    if not isinstance(text, str):
        raise ValueError("has no field `text` with the text of a message")
    return Message(checked_text(text, max_text_chars, "text"))


def reply(prediction: Prediction, texts: Mapping[str, str]) -> Reply:
    """What the network says of a message, as JSON; `texts` are the answers known, by response key."""
    key = prediction.response_key
    return {
        "text": prediction.message.text,
        "intent": prediction.intent,
        "confidence": prediction.confidence,
        "ranking": [{"intent": intent, "confidence": confidence} for intent, confidence in prediction.ranking],
        "entities": [entity._asdict() for entity in prediction.entities],
        "response_key": key,
        "answer": None if key is None else texts.get(key),
    }


def answer_texts(vocabulary: Vocabulary) -> dict[str, str]:
    """The text that answers each response key: of the newest round that brought some, the first by name."""
    found: dict[str, str] = {}
    for block in vocabulary.blocks.get("answer", ()):
        found |= dict(map(pair, reversed(block)))
    return found
