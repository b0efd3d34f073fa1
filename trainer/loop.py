"""Training as a generator: it yields wherever a checkpoint may be taken, and the caller's `for` body decides."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.background import in_background
from trainer.compiled import loss_function
from trainer.data import Batch, Loader
from trainer.device import autocast, seed_device, to_device
from trainer.draw import draw, stream
from trainer.errors import NonFinite, shown
from trainer.evaluate import best_metric, score_of
from trainer.optim import clip, learning_rate_at, named_parameters, parted, set_learning_rate
from trainer.plan import is_done, trains_anew
from trainer.settings import TrainSettings
from trainer.state import TrainState
from trainer.task import Task

PREFETCH_BLOCKS = 16

LOOK_EVERY_STEPS = 64
"""How many losses are gathered before one look at them, because each look waits for the device."""

Evaluate = Callable[[TrainState], Mapping[str, Any] | None]
"""Scores of the network as it is; None when a stop came before all were there."""


@dataclass(frozen=True, kw_only=True)
class EpochEnd:
    """An epoch was trained and evaluated. `loss` is the mean over its examples, in training.

    In a loop of the user's own both numbers are what it noted, None when it did not.
    """

    loss: float | None
    learning_rate: float | None
    metrics: Mapping[str, Any]
    seconds: float


class Training:
    """The training of one round: what its steps need, and the losses that were not looked at yet."""

    def __init__(self, task: Task, state: TrainState, loader: Loader, settings: TrainSettings) -> None:
        self.task, self.state, self.loader, self.settings = task, state, loader, settings
        task.round = loader.round
        apart = () if trains_anew(loader.round) else tuple(task.clipped_apart(state.net))
        self._clipped = parted(named_parameters(state.optimizer), apart)
        self._loss = loss_function(task, state.net, settings)
        self._pending: list[tuple[Tensor, int, np.ndarray]] = []
        self._first_step = state.progress.global_step
        # Seeded anew for each micro-batch, dropout needs no saved generator and stray draws elsewhere cannot matter.
        self._net_key = cache(lambda number: stream(settings.seed, "net", loader.world.rank, number))

    @property
    def num_steps_taken(self) -> int:
        """How many steps were taken so far in this attempt."""
        return self.state.progress.global_step - self._first_step

    def is_done(self) -> bool:
        """Whether the round is trained and evaluated, or was ended by early stopping."""
        return is_done(self.state.progress, self.loader.goal, self.settings.early_stopping_epochs)

    def run(self, evaluate: Evaluate, stopping: Callable[[], bool]) -> Iterator[EpochEnd | None]:
        """Train what is left of the round. Yields None after a step, and an EpochEnd after an epoch's evaluation.

        Ends at the end of the round, or early when `stopping()` becomes true while it waits for data or evaluates.
        """
        progress, goal = self.state.progress, self.loader.goal
        self.state.net.train()
        if progress.waits_for == "evaluate" and not (yield from self._end_epoch(evaluate)):
            return
        if self.is_done():
            return
        with closing(in_background(self.loader.blocks(progress.example), PREFETCH_BLOCKS, stopping)) as blocks:
            started = time.perf_counter()
            for batch in chain.from_iterable(blocks):
                self._step(batch)
                self._took(time.perf_counter() - started)
                ends = batch.end % goal.epoch_examples == 0
                if ends:
                    progress.waits_for = "evaluate"
                yield None
                if ends and not (yield from self._end_epoch(evaluate)):
                    return
                if self.is_done():
                    return
                started = time.perf_counter()

    def settle(self) -> None:
        """Look at the losses since the last look; NonFinite names the first step that has none, and its shards."""
        if not self._pending:
            return
        progress = self.state.progress
        losses = torch.stack([loss for loss, _, _ in self._pending]).tolist()
        for loss, (_, step, parts) in zip(losses, self._pending, strict=True):
            if not math.isfinite(loss):
                raise NonFinite(
                    f"step {step}: the loss is {loss}, of examples in {shown(self.loader.keys(parts))}; nothing of it "
                    "was saved; look at them, or submit again with --learning_rate_factor 0.1"
                )
            progress.loss_sum += loss
        self._pending.clear()

    def _step(self, batch: Batch) -> None:
        """One optimizer update. Its loss: the sum over its examples divided by their number, however accumulated."""
        state, settings, progress = self.state, self.settings, self.state.progress
        goal, anew = self.loader.goal, trains_anew(self.loader.round)
        set_learning_rate(state.optimizer, learning_rate_at(settings, progress.example, goal.num_examples, anew=anew))
        for parameter in state.parameters:  # what zero_grad does beside this costs as much as a small layer
            parameter.grad = None
        is_lone = batch.num_examples == 1 < settings.batch_size
        with _running_statistics(state.net) if is_lone else nullcontext():
            losses = [self._backward(micro, number, batch) for number, micro in enumerate(batch.micro_batches)]
        if settings.max_grad_norm > 0:
            state.scaler.unscale_(state.optimizer)
            for part in self._clipped:
                clip(part, settings.max_grad_norm / len(self._clipped))
        state.scaler.step(state.optimizer)
        state.scaler.update()
        progress.global_step += 1
        progress.num_examples += batch.num_examples
        progress.example = batch.end
        self._pending.append((sum(losses[1:], losses[0]), progress.global_step, batch.parts))
        if len(self._pending) >= LOOK_EVERY_STEPS:
            self.settle()

    def _took(self, seconds: float) -> None:
        """Count the time of a step, with its wait for the data: so long will the next ones take too."""
        self.state.progress.seconds += seconds
        self.state.progress.train_seconds += seconds

    def _backward(self, micro_batch: Any, number: int, batch: Batch) -> Tensor:
        """Add the gradients of one micro-batch; its loss, summed over its examples."""
        state = self.state
        seed_device(state.device, draw(self._net_key(number), state.progress.global_step))
        with autocast(self.settings, state.device):
            loss = self._loss(to_device(micro_batch, state.device))
        torch.autograd.backward(state.scaler.scale(loss / batch.num_examples))
        return loss.detach()

    def _end_epoch(self, evaluate: Evaluate) -> Generator[EpochEnd, None, bool]:
        """Evaluate and close the epoch; False when a stop came first, so that evaluation is what comes next."""
        self.settle()
        started = time.perf_counter()
        metrics = evaluate(self.state)
        self.state.net.train()
        if metrics is None:
            return False
        progress = self.state.progress
        seconds = progress.seconds + time.perf_counter() - started
        loss = progress.loss_sum / self.loader.goal.epoch_examples
        progress.epoch += 1
        progress.loss_sum = progress.seconds = 0.0
        progress.waits_for = "train"
        progress.note_score(score_of(metrics, best_metric(self.task, self.settings)))
        rate = float(self.state.optimizer.param_groups[0]["lr"])
        yield EpochEnd(loss=loss, learning_rate=rate, metrics=metrics, seconds=seconds)
        return True


@contextmanager
def _running_statistics(net: nn.Module) -> Iterator[None]:
    """BatchNorm as in evaluation: the one example that an epoch may leave for its last batch has no variance."""
    kind = nn.modules.batchnorm._BatchNorm
    layers = [layer for layer in net.modules() if isinstance(layer, kind) and layer.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()
