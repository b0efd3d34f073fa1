"""A network built for a checkpoint draws nothing for its parameters, and differs in nothing else from any other."""

import pytest
import torch
from torch import Tensor, nn

from trainer.undrawn import built_undrawn


class Fourier(nn.Module):
    """Its frequencies are drawn, and no part of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("frequencies", torch.randn(4), persistent=False)

    def extra(self) -> Tensor:
        return self.frequencies  # type: ignore[return-value]


class Masked(nn.Module):
    """What it keeps follows from what was drawn for a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.kept = self.linear.weight.detach() > 0

    def extra(self) -> Tensor:
        return self.kept


class Scaled(nn.Module):
    """Whose parameter is changed by another one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 4), nn.Parameter(torch.full((4,), 2.0))
        table = torch.ones(4)
        self.table = table.mul_(self.linear.bias.data).mul_(self.scale.data)

    def extra(self) -> Tensor:
        return self.table


@pytest.mark.parametrize("kind", [Fourier, Masked, Scaled])
def test_what_is_no_parameter_is_as_if_all_was_drawn(kind: type[nn.Module]) -> None:
    torch.manual_seed(3)
    expected = kind()
    torch.manual_seed(3)
    found = built_undrawn(kind)
    assert torch.equal(found.extra(), expected.extra())  # type: ignore[operator]


def test_parameters_are_not_drawn_and_constants_are_as_they_were() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.Conv1d(4, 4, 3))

    torch.manual_seed(3)
    before = torch.default_generator.get_state()
    net = built_undrawn(build)
    assert torch.equal(torch.default_generator.get_state(), before)
    for name, tensor in build().state_dict().items():
        if not name.startswith(("0.", "3.")):
            assert torch.equal(net.state_dict()[name], tensor), name
    assert all(parameter.requires_grad for parameter in net.parameters())
