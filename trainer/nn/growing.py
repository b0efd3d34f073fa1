"""Layers that grow by rows when a round brings new names: old rows stay parameters of their own."""

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn


class GrowingLinear(nn.Module):
    """A linear layer with one weight and bias per block of outputs: (n, in_features) to (n, sum(block_sizes)).

    Outputs are appended by giving the layer another block; names and shapes of the earlier parameters
    (`blocks.0.weight`, `blocks.0.bias`, ...) stay. New rows in an *old* parameter would share its step count,
    while their moments are zero. Adam divides the moments by 1 - beta**steps because they start at zero
    (Kingma and Ba, 2015, algorithm 1 and section 3); thousands of steps in, that correction has faded to 1, and
    a new row's first update would be (1 - 0.9) / sqrt(1 - 0.999) = 3.2 times the learning rate, more than 6 times
    after a dozen steps. A block is a parameter of its own, so the optimizer counts its steps from its own first one.
    """

    def __init__(self, in_features: int, block_sizes: Sequence[int]) -> None:
        super().__init__()
        if not block_sizes:
            raise ValueError("a layer without outputs: the vocabulary is empty")
        self.blocks = nn.ModuleList(nn.Linear(in_features, size) for size in block_sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs in the order of the blocks."""
        return nn.functional.linear(x, *self.rows())

    def rows(self) -> tuple[Tensor, Tensor]:
        """The weights of all blocks, (sum(block_sizes), in_features), and their biases."""
        blocks = cast(list[nn.Linear], list(self.blocks))
        if len(blocks) == 1:
            return blocks[0].weight, blocks[0].bias
        return torch.cat([block.weight for block in blocks]), torch.cat([block.bias for block in blocks])

    @torch.no_grad()
    def join(self) -> None:
        """One block instead of several, so that they need not be put together again for every batch."""
        weight, bias = self.rows()
        whole = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        whole.weight, whole.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.blocks = nn.ModuleList([whole])


class GrowingEmbedding(nn.Module):
    """A table with one row per name, in a parameter per block of names (see GrowingLinear).

    Rows start at zero: a name says nothing before it was trained, so that growth changes no output.
    """

    nothing: Tensor

    def __init__(self, block_sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1, width), persistent=False)
        self.blocks = nn.ParameterList(torch.zeros(size, width) for size in block_sizes)

    def forward(self) -> Tensor:
        """All rows, in the order of the blocks: (sum(block_sizes), width); one row of zeros where there is no name."""
        blocks: list[Tensor] = list(self.blocks) or [self.nothing]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    @torch.no_grad()
    def join(self) -> None:
        """As GrowingLinear.join."""
        self.blocks = nn.ParameterList([nn.Parameter(self())])


@runtime_checkable
class Joinable(Protocol):
    """A layer that can make one block of all its blocks."""

    def join(self) -> None:
        """Do so, for good: such a layer gives the same outputs, and can grow no more."""


def join(net: nn.Module) -> None:
    """Prepare a network for use: every layer in it that grows by blocks has one of them from now on."""
    for module in list(net.modules()):
        if isinstance(module, Joinable):
            module.join()
