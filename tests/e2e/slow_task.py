"""A task that says what the job is doing, and does it as slowly as the environment asks: for signals in good time."""

import os
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tests.trainer.toy import Toy


class Slow(Toy):
    """`SLOW_census=0.1`: each example of a census takes so long; `SLOW_train`, `SLOW_evaluate`: each batch."""

    def key(self, example: Any) -> str | None:
        _take_time("census")
        return super().key(example)

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        _take_time("train")
        return super().loss(net, batch)

    def predict(self, net: nn.Module, batch: Any) -> Sequence[Any]:
        _take_time("evaluate")
        return super().predict(net, batch)


def _take_time(phase: str) -> None:
    seconds = os.environ.get(f"SLOW_{phase}")
    if seconds:
        print(f"slow {phase}", flush=True)
        time.sleep(float(seconds))
