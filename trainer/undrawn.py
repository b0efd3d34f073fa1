"""Building a network whose parameters are all replaced afterwards, without drawing numbers for them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


def built_undrawn(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that `build` makes; the values of its parameters are whatever lay in memory there.

    All else is as `build` alone makes it: where something beside the parameters is drawn, or depends on what was drawn
    for one, the network is built as usual.
    """
    generator = torch.default_generator.get_state()
    with _Undrawn() as mode:
        net = build()
    if mode.is_sure:
        return net
    torch.default_generator.set_state(generator)
    return build()


class _Undrawn(TorchDispatchMode):
    """Leaves out random numbers that are written over a whole parameter; `is_sure` while nobody can have noticed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_sure = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        changes, draws = func._schema.is_mutable, torch.Tag.nondeterministic_seeded in func.tags
        reads = any(isinstance(arg, nn.Parameter) for arg in (args[1:] if changes else args))
        if draws and changes and isinstance(args[0], nn.Parameter):
            return args[0]
        self.is_sure &= not draws and not reads
        return func(*args, **(kwargs or {}))
