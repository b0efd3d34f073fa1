"""Checkpoints: copied at a step boundary, published by a thread while training goes on."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from cloud.errors import StoreError
from cloud.held import HeldFolder
from cloud.pruning import Keeping
from cloud.records import FileDigest, Record
from cloud.threads import in_background
from entrypoint.report import Report
from entrypoint.settings import JobConfig
from trainer.checkpoint import FORMAT, HostCopy, check_finite, last_learning_rate, trained_digest, write
from trainer.evaluate import score_of


class Saver:
    """Decides when a checkpoint is due, copies it, and publishes one at a time in the background."""

    def __init__(self, config: JobConfig, folder: HeldFolder, report: Report, best_metric: str) -> None:
        self._config, self._folder, self._report = config, folder, report
        self._best_metric = best_metric
        self._host = HostCopy()
        self._work: Future[None] | None = None
        self._saved_at = time.monotonic()
        self._saved: tuple[int, int, str] | None = None
        self.last: str | None = None
        """The name of the checkpoint that was committed last."""

    def due(self) -> bool:
        """Whether it is time to save in the middle of an epoch; raises what the last publication failed with."""
        if self._work is None:
            return time.monotonic() - self._saved_at >= self._config.save_every_seconds
        if self._work.done():
            self.wait()
        return False

    def save(
        self, content: Mapping[str, Any], ledgers: tuple[FileDigest, ...], metrics: Mapping[str, Any] | None
    ) -> None:
        """Copy what a checkpoint shall hold and publish it; nothing when it is what was saved last.

        `metrics`: those of the epoch that just ended; None in the middle of one.
        """
        place = (content["epoch"], content["global_step"], content["progress"]["waits_for"])
        if place == self._saved:
            return
        with self._report.phase("blocked_by_checkpoints"):
            self.wait()
            payload = self._host.take({"format": FORMAT, **content})
        lines = list(self._report.metrics)
        publish = partial(self._publish, payload, ledgers, metrics, lines)
        self._work = in_background(publish, "publisher")
        self._saved, self._saved_at = place, time.monotonic()

    def wait(self) -> None:
        """Until what was saved is committed; raises what the publication failed with."""
        work, self._work = self._work, None
        try:
            if work is not None:
                work.result()
        except BaseException:
            self._saved = None  # what failed may be tried again
            raise

    def abandon(self) -> None:
        """Until nothing is being published, whatever comes of it: something else has failed already."""
        if self._work is not None:
            self._work.exception()

    def _publish(
        self,
        payload: Mapping[str, Any],
        ledgers: tuple[FileDigest, ...],
        metrics: Mapping[str, Any] | None,
        lines: list[dict[str, Any]],
    ) -> None:
        with self._report.phase("publish"):
            check_finite(payload)
            step = None if metrics is not None else payload["global_step"]
            previous = self._folder.parent
            record = self._folder.publish(
                payload["epoch"],
                step,
                partial(write, payload),
                global_step=payload["global_step"],
                round=payload["progress"]["round"],
                ledgers=ledgers,
                metrics=dict(metrics or {}),
                settings=payload["settings"],
                net_sha256=trained_digest(payload),
                learning_rate=last_learning_rate(payload),
            )
            self.last = record.name
            if previous is not None and (alarm := record.unchanged_since(previous)):
                self._report.console.warning(f"{record.name}: {alarm}")
            if metrics is not None and lines:
                self._folder.write_metrics(lines)
            self._prune()

    def _prune(self) -> None:
        config = self._config
        keeping = Keeping(last=config.keep_last, best=config.keep_best, every=config.keep_every, score=self._score)
        try:
            self._folder.prune(keeping)
        except StoreError as error:  # what is kept too long is removed by the next prune
            self._report.console.warning(f"old checkpoints were not removed: {error}")

    def _score(self, record: Record) -> float | None:
        return score_of(record.metrics, self._best_metric) if self._best_metric else None
