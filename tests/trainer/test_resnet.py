"""The residual network: sizes, growth, and that it learns."""

import pytest
import torch
from torch import nn

from trainer.nn.resnet import ResNet


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (32, 32), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(size: tuple[int, int], channels: int) -> None:
    net = ResNet(channels, (4, 2), width=4, blocks=1, stages=3).eval()
    assert net(torch.randn(2, channels, *size)).shape == (2, 6)


@pytest.mark.parametrize(("blocks", "layers"), [(1, 8), (3, 20), (5, 32)])
def test_as_many_layers_as_the_paper(blocks: int, layers: int) -> None:
    net = ResNet(3, (10,), width=2, blocks=blocks, stages=3)
    weighty = [
        m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d) and getattr(m, "kernel_size", 0) != (1, 1)
    ]
    assert len(weighty) == layers


def test_growth_changes_nothing_that_was_there() -> None:
    small, large = (ResNet(1, blocks, width=4, blocks=1, stages=2) for blocks in ((3,), (3, 2)))
    before, after = small.state_dict(), large.state_dict()
    assert after.keys() - before.keys() == {"head.blocks.1.weight", "head.blocks.1.bias"}
    assert all(after[name].shape == tensor.shape for name, tensor in before.items())


def test_the_same_seed_is_the_same_network() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(ResNet(1, (3,), width=4, blocks=2, stages=2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_every_parameter_gets_a_gradient() -> None:
    net = ResNet(3, (3, 1), width=4, blocks=2, stages=3, dropout=0.1)
    net(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
