"""`--compile`: the loss through torch.compile, and through the network as it is where no compiler is there."""

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainer.settings import TrainSettings
from trainer.task import Task

_LOG = logging.getLogger(__name__)
_MAX_SHAPES = 64

Loss = Callable[[Any], Tensor]


def loss_function(task: Task, net: nn.Module, settings: TrainSettings) -> Loss:
    """The loss of a batch, summed over its examples, as the task has it; with `--compile` of the compiled network.

    Its parameters are those of `net`, which stays as it is for evaluation and saving.
    """
    return _Compiled(task, net) if settings.compile else lambda batch: task.loss(net, batch)


class _Compiled:
    def __init__(self, task: Task, net: nn.Module) -> None:
        # A kernel for each shape of a batch, whichever came first: what is computed does not depend on where an
        # attempt began. Kernels that serve many shapes would be made for those that happened to come first.
        torch._dynamo.config.recompile_limit = max(_MAX_SHAPES, torch._dynamo.config.recompile_limit)
        self._task, self._plain = task, net
        self._net = cast(nn.Module, torch.compile(net, dynamic=False))

    def __call__(self, batch: Any) -> Tensor:
        """The loss of a batch."""
        try:
            return self._task.loss(self._net, batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split("\n", 2)[:2]).strip()  # what raised, and what it said
            _LOG.warning("--compile: the network is trained as it is, because it cannot be compiled here: %s", reason)
            self._net = self._plain
            return self._task.loss(self._net, batch)
