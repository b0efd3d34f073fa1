"""Optimizers as the job makes them."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer import optim
from trainer.settings import TrainSettings

STEP = """
import sys
import torch
from trainer import optim
from trainer.settings import TrainSettings
for kind in ("adamw", "sgd"):
    net = torch.nn.Linear(3, 2)
    optimizer = optim.make_optimizer(net, TrainSettings(optimizer=kind))
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.ones(4, 3)).sum().backward()
        optim.clip(list(net.parameters()), 1.0)
        optimizer.step()
    optim.load_state(optimizer, optim.named_state(optimizer.state_dict(), net))
print(sorted(name for name in sys.modules if name in ("torch._dynamo", "sympy")))
"""


def test_a_first_step_imports_no_compiler():
    """torch._dynamo takes as long as torch itself."""
    assert subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True).stdout == "[]\n"


def net_with_gradients(scale: float, dtype: torch.dtype) -> nn.Module:
    """The same for every call; one parameter took no part."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3), nn.Linear(1, 1)).to(dtype)
    (net[1](net[0](torch.randn(4, 7, dtype=dtype))).square().sum() * scale).backward()
    return net


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6, float("inf"), float("nan")])
def test_clipping_is_torchs_bit_for_bit(scale, dtype):
    ours, torchs = (list(net_with_gradients(scale, dtype).parameters()) for _ in range(2))
    optim.clip(ours, 0.5)
    torch.nn.utils.clip_grad_norm_(torchs, 0.5)
    for one, other in zip(ours, torchs, strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or one.grad.numpy().tobytes() == other.grad.numpy().tobytes()


@given(st.lists(st.text("ab.", min_size=1, max_size=4), unique=True), st.lists(st.text("ab.", max_size=2), max_size=3))
def test_each_parameter_is_in_one_part_in_its_order(names, beginnings):
    named = {name: torch.tensor(number) for number, name in enumerate(names)}
    parts = [[names[number] for number in part] for part in optim.parted(named, tuple(beginnings))]
    begins = [name for name in names if any(name.startswith(beginning) for beginning in beginnings)]
    assert parts == [part for part in (begins, [name for name in names if name not in begins]) if part]


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_step_is_torchs_bit_for_bit(kind):
    """Ours is without torch's guards and hooks."""
    settings = TrainSettings(optimizer=kind, learning_rate=0.1, weight_decay=0)
    parameters = []
    for make in (
        lambda net: optim.make_optimizer(net, settings),
        lambda net: torch.optim.AdamW(net.parameters(), lr=0.1, betas=(0.9, 0.999), weight_decay=0, fused=True)
        if kind == "adamw" else torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
    ):  # fmt: skip
        net = net_with_gradients(1.0, torch.float32)
        optimizer = make(net)
        for _ in range(3):
            optimizer.step()
        parameters.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
    assert all(torch.equal(one, other) for one, other in pairwise(parameters))
