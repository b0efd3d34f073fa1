"""`--compile` where there is no compiler. What it computes is compared in tests/e2e/test_learning.py."""

import os
import subprocess
import sys

import torch
from torch import nn

from tests.trainer.toy import Toy
from trainer.compiled import loss_function
from trainer.settings import TrainSettings


class Sums(Toy):
    """Whose loss is plain."""

    def loss(self, net, batch):
        return net(batch).sum()


def main() -> None:
    """Print whether the loss is, three times, that of the network."""
    net, batch = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), torch.ones(4, 3)
    loss = loss_function(object.__new__(Sums), net, TrainSettings(compile=True))
    print([bool(loss(batch).isclose(net(batch).sum())) for _ in range(3)])


def test_without_a_compiler_one_line_says_so_and_the_loss_is_that_of_the_network(tmp_path):
    # A process of its own: torch remembers for good that there is no compiler.
    env = {**os.environ, "CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.trainer.test_compiled"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[True, True, True]\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("--compile: the network is trained as it is, because")
    assert "/nowhere/c++" in line


if __name__ == "__main__":
    main()
