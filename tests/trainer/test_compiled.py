"""`--compile` where there is no compiler. What it computes is compared in tests/e2e/test_learning.py."""

import logging

import pytest
import torch
from torch import nn

from tests.trainer.toy import Toy
from trainer.compiled import loss_function
from trainer.settings import TrainSettings


class Sums(Toy):
    """Whose loss is plain."""

    def loss(self, net, batch):
        return net(batch).sum()


def test_without_a_compiler_one_line_says_so_and_the_loss_is_that_of_the_network(monkeypatch, caplog):
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "/nowhere/c++"))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    net, batch = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), torch.ones(4, 3)
    task = object.__new__(Sums)
    loss = loss_function(task, net, TrainSettings(compile=True))
    with caplog.at_level(logging.WARNING):
        assert [loss(batch).item() for _ in range(3)] == pytest.approx([net(batch).sum().item()] * 3)
    (record,) = [record for record in caplog.records if record.name == "trainer.compiled"]
    assert record.getMessage().startswith("--compile: the network is trained as it is")
    assert "\n" not in record.getMessage()
