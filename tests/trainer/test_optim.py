"""Optimizers as the job makes them."""

import subprocess
import sys

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
