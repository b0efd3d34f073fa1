"""For training loops of the user's own: the same claim, checkpoints, stops and exit codes, around any `for` loop."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

import torch
from torch import nn

from cloud.errors import CloudError
from cloud.scratch import scratch_directory
from entrypoint import exits
from entrypoint.attempt import Attempt, attempt
from entrypoint.console import Console
from entrypoint.errors import SettingsError, Stopped
from entrypoint.places import open_output
from entrypoint.report import Report
from entrypoint.resume import newest_foreign, payload_of
from entrypoint.saver import Saver
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.checkpoint import Payload
from trainer.device import seed_device
from trainer.draw import draw, stream
from trainer.errors import Incompatible, TrainerError
from trainer.evaluate import plain_scores
from trainer.loop import EpochEnd
from trainer.plan import Progress
from trainer.state import check_complete, check_fits

T = TypeVar("T")
OWN_LOOP = "own loop"
OURS = (CloudError, TrainerError, SettingsError, Stopped, OSError)


class Stateful(Protocol):
    """What torch's modules, optimizers and schedulers have in common."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Run:
    """A claimed output folder around a loop: `with Run("s3://bucket/run", net=net, optimizer=optimizer) as run`.

    Entering restores the newest good checkpoint, if there is one, into `net`, `optimizer` and `others` (schedulers and
    the like, by name), moved to the device of `net`. `epochs` and `batches` then give what is left. A stop (SIGTERM,
    SIGINT, `max_run_seconds`) saves after the batch under way and ends the process with 143; an error of ours is one
    line on stderr and its exit code.

    Continuing is exact when the batches are a function of the epoch: the default generator is seeded before each.
    """

    def __init__(
        self,
        train_url: str,
        *,
        net: nn.Module,
        optimizer: Stateful,
        others: Mapping[str, Stateful] | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        """`settings` are those of the job that fit: keep_last, keep_best, best_metric, save_every_seconds, ..."""
        self._stop, self._console = Stop(), Console(settings.get("log_format", "text"))
        self._config = JobConfig(train_url=train_url, task=OWN_LOOP, seed=seed, **settings)
        self._net, self._optimizer, self._others = net, optimizer, dict(others or {})
        self._report = Report(self._console, self._stop.started)
        self._report.best_metric = self._config.best_metric
        self._progress = Progress(round=1)
        self._metrics: dict[str, Any] = {}
        self._num_left = 0
        self._device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))

    def __enter__(self) -> "Run":
        self._stop.install()
        self._stop.limit(self._config.max_run_seconds)
        self._stop.shown = self._console.error_line
        try:
            with ExitStack() as stack:
                stack.enter_context(self._stop.grace(self._config.grace_seconds))
                scratch = stack.enter_context(scratch_directory())
                output = open_output(self._config)
                held = stack.enter_context(attempt(self._config, output, scratch, self._report, self._stop))
                with self._report.phase("restore"):
                    self._restore(held, scratch)
                self._saver = Saver(self._config, held.folder, self._report, self._config.best_metric, self._stop)
                self._stack = stack.pop_all()
        except OURS as error:
            self._leave(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with self._stack:
                try:
                    if error is not None:
                        raise error
                    if self._report.has_trained:
                        self._save(None)  # the steps of an epoch that was left by `break`
                    self._saver.wait()
                    self._report.done("More epochs would go on from here.")
                finally:
                    self._saver.abandon()
        except OURS as failure:
            self._leave(failure)

    @property
    def epoch(self) -> int:
        """Complete epochs so far."""
        return self._progress.epoch

    @property
    def global_step(self) -> int:
        """Batches trained so far, over all epochs and attempts."""
        return self._progress.global_step

    def epochs(self, num_epochs: int) -> Iterator[int]:
        """The numbers of the epochs that are left, from 0; each is published when its body is through.

        A `break` after the last batch of an epoch ends that epoch; before it, the rest is left for the next run.
        """
        progress = self._progress
        while progress.epoch < num_epochs:
            self._report.trains(progress)
            self._metrics, started = {}, time.perf_counter()
            try:
                yield progress.epoch
            except GeneratorExit:  # a `break`: it closes the epoch when that was trained to its end
                if self._num_left == 0:
                    self._end_epoch(time.perf_counter() - started)
                raise
            self._end_epoch(time.perf_counter() - started)
            self._check_stop()

    def batches(self, batches: Sequence[T]) -> Iterator[T]:
        """What is left of an epoch's batches; after each, a checkpoint is taken when it is due."""
        key = stream(self._config.seed, "net", 0, 0)
        for place in range(self._progress.example, len(batches)):
            seed_device(self._device, draw(key, self._progress.global_step))
            yield batches[place]
            self._progress.global_step += 1
            self._progress.example = place + 1
            self._num_left = len(batches) - place - 1
            # After the last one the epoch's body goes on, which a resumed run could not: `epochs` saves then.
            if self._num_left:
                if self._saver.due() or self._stop.requested:
                    self._save(None)
                self._check_stop()

    def note(self, **metrics: float) -> None:
        """Metrics of this epoch: for its record, `keep_best`, and a line."""
        self._metrics |= plain_scores({name: float(value) for name, value in metrics.items()})

    def _end_epoch(self, seconds: float) -> None:
        progress = self._progress
        progress.epoch += 1
        progress.example = 0
        scores = {name: value for name, value in self._metrics.items() if name != "loss"}
        end = EpochEnd(loss=self._metrics.get("loss"), learning_rate=None, metrics=scores, seconds=seconds)
        self._report.epoch(progress, end)
        self._save(self._metrics)

    def _check_stop(self) -> None:
        """Raise Stopped, once all is committed, when a stop was asked for."""
        if self._stop.requested:
            self._saver.wait()
            self._stop.check()

    def _restore(self, held: Attempt, scratch: Path) -> None:
        """Bring net, optimizer and the others to where the newest good checkpoint left them."""
        rejected = held.reading.rejected
        if held.chosen is not None:
            name: str | None = held.chosen.record.name
            payload: Payload | None = payload_of(held.chosen)
        else:
            name, payload, rejected = newest_foreign(held.reading, self._config, scratch, self._stop.check)
        if payload is not None:
            self._apply(payload)
        self._report.progress = self._progress
        self._report.resumed(name, rejected)

    def _apply(self, payload: Payload) -> None:
        """All of it is checked before any is applied, as far as torch lets one check."""
        url, fixed = self._config.train_url, payload.settings.get("run", {})
        task, seed = fixed.get("task", OWN_LOOP), fixed.get("seed", self._config.seed)
        if seed != self._config.seed:
            raise Incompatible(f"seed: found {seed} in {url}, expected {self._config.seed}; it is fixed for a folder")
        if task != OWN_LOOP:
            raise Incompatible(f"task: found {task} in {url}, expected a loop of one's own; use another folder")
        own = self._net.state_dict()
        check_complete(own, payload.net)
        check_fits(own, payload.net)
        missing = sorted(self._others.keys() - payload.others.keys()) if payload.format else []
        if missing:
            raise Incompatible(
                f"others: found no {missing[0]!r} in {self._config.train_url}; take it out, or start anew"
            )
        try:
            self._optimizer.load_state_dict(dict(payload.optimizer))
        except (ValueError, KeyError) as error:
            raise Incompatible(f"optimizer: {error}; use the one that the run began with") from error
        for name in self._others.keys() & payload.others.keys():
            self._others[name].load_state_dict(payload.others[name])
        self._net.load_state_dict(dict(payload.net))
        self._progress = replace(payload.progress, round=1)

    def _save(self, metrics: Mapping[str, Any] | None) -> None:
        """Publish the state as it is now, in the background; `metrics` those of the epoch that just ended."""
        progress = self._progress
        content = {
            "net": self._net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "others": {name: other.state_dict() for name, other in self._others.items()},
            "epoch": progress.epoch,
            "global_step": progress.global_step,
            "progress": vars(progress),
            "settings": {"run": {"task": OWN_LOOP, "seed": self._config.seed}},
        }
        self._saver.save(content, (), metrics)

    def _leave(self, error: BaseException) -> NoReturn:
        """End the process as the job would: one line, and the exit code."""
        retry = self._config.retry_exit_code
        raise SystemExit(
            exits.report(error, self._console, debug=self._config.debug, failure_file=None, retry_exit_code=retry)
        ) from None
