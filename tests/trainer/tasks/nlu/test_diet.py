"""DIET: what a message says does not depend on its batch; similarities are learned, and grow."""

import pytest
import torch
from torch import Tensor

from trainer.tasks.nlu.diet import CONNECTION_DENSITY, Diet, SimilarityHead, SparselyConnected
from trainer.tasks.nlu.labels import Told

WIDTH, HIDDEN = 12, 16


def told(targets: Tensor) -> Told:
    """Each message counts 1, no label is held down."""
    return Told(targets, torch.ones(len(targets)), torch.zeros(()))


def diet() -> Diet:
    torch.manual_seed(0)
    return Diet(WIDTH, HIDDEN, num_layers=2, num_heads=2, dropout=0.5).eval()


def test_states_do_not_depend_on_the_rest_of_the_batch() -> None:
    tokens, messages, lengths = torch.randn(3, 5, WIDTH), torch.randn(3, WIDTH), torch.tensor([5, 2, 0])
    tokens *= (torch.arange(5) < lengths[:, None]).unsqueeze(2)
    net = diet()
    token_states, message_states = net(tokens, messages, lengths)
    assert (token_states.shape, message_states.shape) == ((3, 5, HIDDEN), (3, HIDDEN))
    own_tokens, own_message = net(tokens[1:2, :2], messages[1:2], lengths[1:2])
    assert torch.allclose(own_tokens[0], token_states[1, :2], atol=1e-5)
    assert torch.allclose(own_message[0], message_states[1], atol=1e-5)


def test_a_long_message_makes_no_other_one_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """In groups of at most so many places, the states are the same, and they learn."""
    lengths = torch.tensor([2, 0, 9, 3, 1, 9])
    tokens, messages = torch.randn(6, 9, WIDTH), torch.randn(6, WIDTH, requires_grad=True)
    tokens *= (torch.arange(9) < lengths[:, None]).unsqueeze(2)
    net, shapes = diet(), list[tuple[int, ...]]()
    net.transformer.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape[:2])))
    expected = net(tokens, messages, lengths)
    monkeypatch.setattr("trainer.tasks.nlu.diet.MAX_PLACES", 12)
    found = net(tokens, messages, lengths)
    assert shapes == [(6, 10), (3, 3), (1, 4), (1, 10), (1, 10)]
    inside = (torch.arange(9) < lengths[:, None]).unsqueeze(2)
    assert torch.allclose(expected[0] * inside, found[0] * inside, atol=1e-5)
    assert torch.allclose(expected[1], found[1], atol=1e-5)
    found[1].sum().backward()
    assert messages.grad is not None and bool((messages.grad.abs().sum(dim=1) > 0).all())


def test_tokens_see_the_message_and_the_message_sees_tokens() -> None:
    tokens, messages, lengths = torch.randn(1, 3, WIDTH), torch.randn(1, WIDTH), torch.tensor([3])
    net = diet()
    token_states, message_state = net(tokens, messages, lengths)
    assert (net(tokens, messages + 1, lengths)[0] != token_states).any()
    tokens[0, 1] += 1
    assert (net(tokens, messages, lengths)[1] != message_state).any()


def test_connections_are_few_and_every_unit_has_one() -> None:
    layer = SparselyConnected(40, 90)
    assert layer.mask.any(dim=0).all() and layer.mask.any(dim=1).all()
    assert abs(float(layer.mask.float().mean()) - CONNECTION_DENSITY) < 0.05
    layer(torch.randn(8, 40)).square().sum().backward()
    assert layer.weight.grad is not None and not layer.weight.grad[~layer.mask].any()
    assert "mask" in layer.state_dict()  # a checkpoint holds it: it is drawn once


def learn(head: SimilarityHead, states: Tensor, targets: Tensor) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(states, told(targets), 0.0).backward()
        optimizer.step()


def test_similarities_are_learned_and_grow() -> None:
    torch.manual_seed(1)
    codes = torch.randn(4, HIDDEN)
    targets = torch.arange(40) % 4
    states = codes[targets] + 0.3 * torch.randn(40, HIDDEN)
    known = targets < 3
    head = SimilarityHead(HIDDEN, [3])
    learn(head, states[known], targets[known])
    assert torch.equal(head(states[known]).argmax(dim=1), targets[known])
    larger = SimilarityHead(HIDDEN, [3, 1])
    larger.load_state_dict(head.state_dict(), strict=False)
    assert torch.allclose(larger(states)[:, :3], head(states), atol=1e-6)
    assert torch.equal(larger(states[known]).argmax(dim=1), targets[known])
    learn(larger, states, targets)
    assert torch.equal(larger(states).argmax(dim=1), targets)


def test_messages_without_a_label_do_not_count() -> None:
    head, states = SimilarityHead(HIDDEN, [2]), torch.randn(4, HIDDEN)
    unknown = torch.full((4,), -1)
    assert head.loss(states, told(unknown), 0.0) == 0
    torch.manual_seed(2)
    alone = head.loss(states[:1], told(torch.tensor([1])), 0.0)
    torch.manual_seed(2)
    assert torch.equal(head.loss(states, told(torch.tensor([1, -1, -1, -1])), 0.0), alone)


def test_a_message_counts_by_its_weight() -> None:
    head, states, targets = SimilarityHead(HIDDEN, [3]), torch.randn(2, HIDDEN), torch.tensor([0, 2])
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.5]])
    found = []
    for row in weights:
        torch.manual_seed(3)  # the same random pairs
        found.append(head.loss(states, Told(targets, row, torch.zeros(3)), 0.0))
    assert found[0] > 0 and found[1] > 0
    assert torch.allclose(found[2], 2 * found[0] + 0.5 * found[1])
