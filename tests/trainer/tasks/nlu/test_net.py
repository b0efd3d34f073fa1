"""The network as a whole: what it is shown in training."""

from typing import Any

import pytest
import torch

from trainer.ledger import Round
from trainer.tasks.nlu.messages import Entity, Message
from trainer.tasks.nlu.net import UNKNOWN, Net
from trainer.tasks.nlu.task import NLU, NluSettings
from trainer.vocabulary import Vocabulary

STEPS = 200


def message(text: str) -> Message:
    return Message(text, "pay", None, (Entity(4, len(text), "PERSON"),))


def test_words_of_one_message_are_mostly_unknown_in_training_and_others_never() -> None:
    torch.manual_seed(0)
    task, data = NLU(), [message("pay zoe"), message("pay anna"), message("pay anna ")]
    task.settings = NluSettings(width=4, hidden=4, token_width=4, feature_dropout=0.0, dropout=0.0)
    vocabulary = task.grow(Vocabulary(), (), data)
    net, ids = task.build(vocabulary), vocabulary.ids("lexical")
    assert isinstance(net, Net)
    learned = torch.zeros(STEPS, len(ids), dtype=torch.bool)
    for step in range(STEPS):
        net.zero_grad()
        torch.autograd.backward(task.loss(net, task.collate(data, vocabulary, None)))
        (grad,) = [parameter.grad for parameter in net.forms.parameters()]
        assert grad is not None
        learned[step] = grad.any(dim=1)
    shares = {name: float(learned[:, i].float().mean()) for name, i in ids.items()}
    assert [shares[name] for name in ("is:pay", "is:anna", "begins:a", "case:lower", "form:a")] == [1.0] * 5
    assert abs(shares["is:zoe"] - (1 - UNKNOWN)) < 0.1
    whole = learned[:, [ids[name] for name in ("is:zoe", "begins:z", "ends:oe")]]
    assert (whole.all(dim=1) == whole.any(dim=1)).all(), "a word is unknown as a whole"


def test_all_words_are_known_when_the_network_is_asked() -> None:
    torch.manual_seed(0)
    task, data = NLU(), [message("pay zoe"), message("pay anna")]
    task.settings = NluSettings(width=4, hidden=4, token_width=4)
    vocabulary = task.grow(Vocabulary(), (), data)
    net = task.build(vocabulary).eval()
    torch.nn.init.normal_(next(net.get_submodule("forms").parameters()))
    first, again = (net(task.collate(data, vocabulary, None).inputs).tokens for _ in range(2))
    assert torch.equal(first, again)
    unknown = net(task.collate([message("pay xxx"), message("pay anna")], vocabulary, None).inputs).tokens
    assert not torch.equal(first[0], unknown[0]) and torch.allclose(first[1], unknown[1], atol=1e-6)


def made(settings: NluSettings, data: list[Message]) -> tuple[NLU, Vocabulary, Net]:
    task = NLU()
    task.settings = settings
    vocabulary = task.grow(Vocabulary(), (), data)
    net = task.build(vocabulary)
    assert isinstance(net, Net)
    return task, vocabulary, net


def test_what_entities_alone_are_told_by_is_clipped_apart() -> None:
    data = [message("pay zoe"), message("pay anna")]
    task, vocabulary, net = made(NluSettings(), data)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    torch.autograd.backward(net(task.collate(data, vocabulary, None).inputs).tokens.sum())
    of_tokens = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    of_tokens |= {f"tags.{name}" for name, _ in net.tags.named_parameters()}
    assert of_tokens == {name for name, _ in net.named_parameters() if name.startswith(task.clipped_apart(net))}
    task.round = Round(number=2, settings={}, window_bytes=1, labels=("pay",))
    assert not task.clipped_apart(net), "new intents are learned with all of the norm"


@pytest.mark.parametrize(
    ("settings", "entities"),
    [(NluSettings(architecture="diet"), (Entity(4, 7, "PERSON"),)), (NluSettings(), ())],
    ids=["a transformer's states tell messages too", "no entities"],
)
def test_nothing_is_clipped_apart(settings: NluSettings, entities: tuple[Entity, ...]) -> None:
    task, _, net = made(settings, [Message("pay zoe", "pay", None, entities), Message("hi you", "greet", None, ())])
    assert not task.clipped_apart(net)


LARGE = {"width": 1024, "hidden": 1024}


@pytest.mark.parametrize(("settings", "expected"), [({}, 1), (LARGE, 0), ({"architecture": "diet"}, 0)])
def test_a_small_bag_is_trained_by_one_thread(settings: dict[str, Any], expected: int) -> None:
    task = NLU()
    task.settings = NluSettings(**settings)
    vocabulary = task.grow(Vocabulary(), (), [Message("hi", "greet"), Message("bye", "leave")])
    assert task.num_threads(task.build(vocabulary)) == expected
