"""A layer that grows by blocks: what was learned stays, and new rows move as far as new parameters do."""

import copy

import pytest
import torch
from torch import Tensor, nn

from trainer.nn.growing import GrowingLinear

LEARNING_RATE = 1e-3
OLD, NEW, FEATURES = 5, 2, 16
PAST_STEPS = 3000
INPUTS = torch.randn(32, FEATURES, generator=torch.Generator().manual_seed(1))


def optimizer_of(net: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.0)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Steps towards changing targets, so that gradients stay alive."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = net(INPUTS)
        targets = torch.randint(outputs.shape[1], (len(INPUTS),), generator=generator)
        nn.functional.cross_entropy(outputs, targets).backward()
        optimizer.step()


def grow(
    net: GrowingLinear, optimizer: torch.optim.Optimizer, sizes: list[int]
) -> tuple[GrowingLinear, torch.optim.AdamW]:
    """The layer with further blocks, and its optimizer; what is there already is carried over by name."""
    grown = GrowingLinear(FEATURES, sizes)
    grown.load_state_dict(net.state_dict(), strict=False)
    new_optimizer = optimizer_of(grown)
    parameters = dict(grown.named_parameters())
    for name, parameter in net.named_parameters():
        new_optimizer.state[parameters[name]] = {
            key: value.clone() for key, value in optimizer.state[parameter].items()
        }
    return grown, new_optimizer


@pytest.fixture(scope="module")
def trained_once() -> tuple[GrowingLinear, torch.optim.AdamW]:
    torch.manual_seed(0)
    net = GrowingLinear(FEATURES, [OLD])
    optimizer = optimizer_of(net)
    train(net, optimizer, PAST_STEPS)
    return net, optimizer


@pytest.fixture
def trained(trained_once: tuple[GrowingLinear, torch.optim.AdamW]) -> tuple[GrowingLinear, torch.optim.AdamW]:
    return copy.deepcopy(trained_once)


def largest_steps(weight: nn.Parameter, optimizer: torch.optim.Optimizer, rows: slice, steps: int) -> Tensor:
    """How far the rows move at each of some steps with a gradient that stays, in learning rates: (steps,)."""
    moves = []
    for _ in range(steps):
        before = weight.detach().clone()
        weight.grad = torch.full_like(weight, 0.01)
        optimizer.step()
        moves.append((weight.detach() - before)[rows].abs().max() / LEARNING_RATE)
    return torch.stack(moves)


def test_old_parameters_keep_name_shape_and_value(trained: tuple[GrowingLinear, torch.optim.AdamW]) -> None:
    net, optimizer = trained
    grown, grown_optimizer = grow(net, optimizer, [OLD, NEW])
    parameters = dict(grown.named_parameters())
    assert list(parameters) == ["blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"]
    for name, old in net.named_parameters():
        assert torch.equal(parameters[name], old)
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(grown_optimizer.state[parameters[name]][key], optimizer.state[old][key])


def test_old_outputs_and_their_ranking_stay(trained: tuple[GrowingLinear, torch.optim.AdamW]) -> None:
    net, optimizer = trained
    grown, _ = grow(net, optimizer, [OLD, NEW, 1])
    before, after = net(INPUTS), grown(INPUTS)
    assert after.shape == (len(INPUTS), OLD + NEW + 1)
    assert torch.allclose(after[:, :OLD], before, atol=1e-5, rtol=0)
    assert torch.equal(after[:, :OLD].argsort(dim=1), before.argsort(dim=1))


def test_new_rows_move_like_new_parameters(trained: tuple[GrowingLinear, torch.optim.AdamW]) -> None:
    grown, optimizer = grow(*trained, [OLD, NEW])
    block = grown.blocks[1]
    assert isinstance(block, nn.Linear)
    moves = largest_steps(block.weight, optimizer, slice(None), steps=30)
    assert torch.allclose(moves, torch.ones(30), atol=1e-2)  # Adam's step for a gradient that stays: one learning rate


def test_new_rows_in_an_old_parameter_would_race_ahead(trained: tuple[GrowingLinear, torch.optim.AdamW]) -> None:
    """The naive way, for contrast: the weight padded with new rows, its moments with zeros."""
    net, optimizer = trained
    (old, *_) = net.parameters()
    padded = nn.Parameter(torch.cat([old.detach(), torch.zeros(NEW, FEATURES)]))
    naive = torch.optim.AdamW([padded], lr=LEARNING_RATE, weight_decay=0.0)
    naive.state[padded] = {
        key: value.clone() if value.ndim == 0 else torch.cat([value, torch.zeros(NEW, FEATURES)])
        for key, value in optimizer.state[old].items()
    }
    moves = largest_steps(padded, naive, slice(OLD, None), steps=30)
    assert 3 < moves[0] < 3.5
    assert moves.max() > 6


def test_old_rows_go_on_as_if_nothing_had_grown(trained: tuple[GrowingLinear, torch.optim.AdamW]) -> None:
    """The same gradients move the old rows by the same bits, with or without a new block."""
    net, optimizer = trained
    grown, grown_optimizer = grow(net, optimizer, [OLD, NEW])
    for layer, its_optimizer in ((net, optimizer), (grown, grown_optimizer)):
        for parameter in layer.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)
        its_optimizer.step()
    assert torch.equal(dict(grown.named_parameters())["blocks.0.weight"], net.state_dict()["blocks.0.weight"])


def test_blocks_compute_what_one_layer_would() -> None:
    torch.manual_seed(0)
    layer = GrowingLinear(FEATURES, [3, 1, 2])
    rows = [block for block in layer.blocks if isinstance(block, nn.Linear)]
    expected = torch.cat([block(INPUTS) for block in rows], dim=1)
    assert torch.allclose(layer(INPUTS), expected, atol=1e-6)
    layer(INPUTS).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_a_layer_without_outputs_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        GrowingLinear(FEATURES, [])
