"""Scores of task `nlu`: how right intents, entities and responses are, as pure functions of predictions."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from trainer.metrics import classification_scores, label_scores
from trainer.tasks.nlu.messages import Entity, Message

TOKEN = re.compile(r"\w(?:\S*\w)?|(?<!\S)[^\w\s]+(?!\S)")
"""What the token score counts: words without the punctuation around them; a mark that stands alone is a word too."""


class Prediction(NamedTuple):
    """What a network says of one message. `ranking` holds intents with their confidence, the highest first."""

    message: Message
    """The truth."""
    intent: str | None
    confidence: float
    ranking: tuple[tuple[str, float], ...]
    entities: tuple[Entity, ...]
    response_key: str | None
    """The likeliest of those of `intent`."""
    response_of_true_intent: str | None
    loss: float


def scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Scores from 0 to 1 by name; what is annotated in none of the messages has no score, {} of no predictions.

    - `intent_accuracy`, `intent_f1_weighted` (by number of messages), `intent_f1_macro`; `per_label` maps an intent
      to its `precision`, `recall`, `f1` and `num_examples`. Macro is the mean over the intents that occur.
    - `entity_f1`: micro F1 of entities, right where start, end and type are; `per_entity` as `per_label`.
    - `entity_f1_token`: F1 of the words' entity types, weighted by number of words, words of no entity left out.
    - `response_f1`: weighted F1 of `response_key`, over the messages that have one.
    - `response_f1_given_intent`: the same, had the intent been told, which is what Rasa's tests report.
    - `loss`: the mean.
    """
    if not predictions:
        return {}
    return {
        **_intents([one for one in predictions if one.message.intent is not None]),
        **(_entities(predictions) if any(one.message.entities for one in predictions) else {}),
        **_responses([one for one in predictions if one.message.response_key is not None]),
        "loss": sum(one.loss for one in predictions) / len(predictions),
    }


def _intents(predictions: Sequence[Prediction]) -> dict[str, Any]:
    if not predictions:
        return {}
    targets, predicted = [one.message.intent for one in predictions], [one.intent for one in predictions]
    found = classification_scores(*_ids(targets, predicted))
    return {
        "intent_accuracy": found["accuracy"],
        "intent_f1_weighted": _weighted(found["per_label"]),
        "intent_f1_macro": found["macro_f1"],
        "per_label": found["per_label"],
    }


def _responses(predictions: Sequence[Prediction]) -> dict[str, float]:
    if not predictions:
        return {}
    targets = [one.message.response_key for one in predictions]
    said = {
        "response_f1": [one.response_key for one in predictions],
        "response_f1_given_intent": [one.response_of_true_intent for one in predictions],
    }
    return {name: _weighted(label_scores(*_ids(targets, predicted))) for name, predicted in said.items()}


def _entities(predictions: Sequence[Prediction]) -> dict[str, Any]:
    true, said, right = Counter[str](), Counter[str](), Counter[str]()
    for one in predictions:
        spans, guesses = _spans(one.message.entities), _spans(one.entities)
        true.update(entity for *_, entity in spans)
        said.update(entity for *_, entity in guesses)
        right.update(entity for *_, entity in spans & guesses)
    return {
        "entity_f1": _f1(right.total(), true.total(), said.total()),
        "entity_f1_token": _token_f1(predictions),
        "per_entity": {entity: _entity_scores(right[entity], true[entity], said[entity]) for entity in sorted(true)},
    }


def _spans(entities: Iterable[Entity]) -> set[tuple[int, int, str]]:
    return {(one.start, one.end, one.entity) for one in entities}


def _entity_scores(right: int, true: int, said: int) -> dict[str, float]:
    precision = right / said if said else 0.0
    return {"precision": precision, "recall": right / true, "f1": _f1(right, true, said), "num_examples": true}


def _f1(right: int, true: int, said: int) -> float:
    return 2 * right / (true + said) if true + said else 0.0


def _token_f1(predictions: Sequence[Prediction]) -> float:
    targets: list[str] = []
    predicted: list[str] = []
    for one in predictions:
        tokens = [match.span() for match in TOKEN.finditer(one.message.text)]
        targets += _types(tokens, one.message.entities)
        predicted += _types(tokens, one.entities)
    found = label_scores(*_ids(targets, predicted))
    return _weighted({name: of_type for name, of_type in found.items() if name})


def _types(tokens: Iterable[tuple[int, int]], entities: Sequence[Entity]) -> list[str]:
    """The type of the first entity that each token has a part of, "" where there is none."""
    return [next((one.entity for one in entities if one.start < end and start < one.end), "") for start, end in tokens]


def _ids(targets: Sequence[str | None], predicted: Sequence[str | None]) -> tuple[list[int], list[int], list[str]]:
    """Both as ids, and the names; no name is one too, so that a missing prediction is a wrong one."""
    names = sorted({name or "" for name in (*targets, *predicted)})
    ids = {name: i for i, name in enumerate(names)}
    return [ids[name or ""] for name in targets], [ids[name or ""] for name in predicted], names


def _weighted(per_label: Mapping[str, Mapping[str, float]]) -> float:
    """The mean F1 of labels, each counted as often as it occurs in the truth."""
    total = sum(one["num_examples"] for one in per_label.values())
    return sum(one["f1"] * one["num_examples"] for one in per_label.values()) / total if total else 0.0
