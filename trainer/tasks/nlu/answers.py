"""What the network says of messages, as predictions by name."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.tasks.nlu.batch import Collated
from trainer.tasks.nlu.messages import Entity
from trainer.tasks.nlu.net import Net, States
from trainer.tasks.nlu.renames import current, merged
from trainer.tasks.nlu.renames import ids as renamed_ids
from trainer.tasks.nlu.scores import Prediction
from trainer.tasks.nlu.tags import to_entities

RANKED = 10
"""How many intents a prediction ranks."""
Ranking = tuple[tuple[str, float], ...]


def predictions(net: Net, batch: Collated) -> list[Prediction]:
    """One prediction per message of the batch; its loss is that of intent and response, without smoothing."""
    states = net(batch.inputs)
    rankings, (responses, of_true_intent) = _rankings(states, batch), _responses(states, batch)
    entities, losses = _entities(net, states, batch), _losses(states, batch)
    best = [ranking[0] if ranking else (None, 0.0) for ranking in rankings]
    intents, confidences = zip(*best, strict=True) if best else ((), ())
    columns = (intents, confidences, rankings, entities, responses, of_true_intent, losses)
    return [Prediction(*row) for row in zip(batch.messages, *columns, strict=True)]


def _rankings(states: States, batch: Collated) -> list[Ranking]:
    if "intent" not in states.logits:
        return [()] * len(batch.messages)
    names = batch.featurizer.vocabulary.names("intent")
    shares, ids = _shares(states, batch, "intent").topk(min(RANKED, len(names)))
    rows = zip(ids.tolist(), shares.tolist(), strict=True)
    return [tuple((names[i], share) for i, share in zip(*row, strict=True)) for row in rows]


def _shares(states: States, batch: Collated, kind: str) -> Tensor:
    """The probability of each name, (n, names); that of a merged name counts towards the other."""
    shares = states.logits[kind].float().softmax(dim=1)
    if dead := merged(batch.featurizer.vocabulary, kind):
        sources, into = (torch.tensor(numbers, device=shares.device) for numbers in (list(dead), list(dead.values())))
        shares = shares.index_add(1, into, shares[:, sources]).index_fill(1, sources, 0.0)
    return shares


def _responses(states: States, batch: Collated) -> list[list[str | None]]:
    """The likeliest response of the likeliest intent, and that of the true one; None where that has none."""
    if "response" not in states.logits:
        return [[None] * len(batch.messages)] * 2
    vocabulary = batch.featurizer.vocabulary
    names, intents = vocabulary.names("response"), renamed_ids(vocabulary, "intent")
    of_intent = torch.tensor([intents.get(name.partition("/")[0], -1) for name in names])
    shares = _shares(states, batch, "response").cpu()
    true = batch.inputs.labels["intent"].targets.cpu()
    said = _shares(states, batch, "intent").argmax(dim=1).cpu()
    return [_likeliest(shares.masked_fill(ids[:, None] != of_intent, -1.0), names) for ids in (said, true)]


def _likeliest(shares: Tensor, names: Sequence[str]) -> list[str | None]:
    """Row by row the name with the greatest share; None where none has one."""
    best, ids = shares.max(dim=1)
    return [names[i] if top >= 0 else None for i, top in zip(ids.tolist(), best.tolist(), strict=True)]


def _entities(net: Net, states: States, batch: Collated) -> list[tuple[Entity, ...]]:
    if "entity" not in net.tags:
        return [()] * len(batch.messages)
    vocabulary, synonyms = batch.featurizer.vocabulary, batch.featurizer.synonyms
    names = {layer: [current(vocabulary, layer, name) for name in vocabulary.names(layer)] for layer in net.tags}
    tags = {layer: head.decode(states.tokens, batch.inputs.lengths) for layer, head in net.tag_heads().items()}
    return [
        to_entities(message.text, features.tokens, {layer: rows[i] for layer, rows in tags.items()}, names, synonyms)
        for i, (message, features) in enumerate(zip(batch.messages, batch.features, strict=True))
    ]


def _losses(states: States, batch: Collated) -> list[float]:
    losses = torch.zeros(len(batch.messages))
    for kind, logits in states.logits.items():
        losses += nn.functional.cross_entropy(
            logits.float(), batch.inputs.labels[kind].targets, ignore_index=-1, reduction="none"
        ).cpu()
    return losses.tolist()
