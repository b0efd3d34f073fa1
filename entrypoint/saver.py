"""Checkpoints: when one is due, its copy at a step boundary, and its commit by a thread while training goes on."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloud.errors import CloudError, StoreError
from cloud.held import HeldFolder
from cloud.pruning import Keeping
from cloud.records import FileDigest, Record
from cloud.store import Store
from entrypoint.aside import Aside
from entrypoint.cadence import Cadence
from entrypoint.errors import Unpublished
from entrypoint.grace import Costs, Decision
from entrypoint.publisher import Publisher
from entrypoint.report import Report
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.checkpoint import FORMAT, last_learning_rate, write
from trainer.contents import check_finite, trained_digest
from trainer.evaluate import score_of
from trainer.frozen import Frozen
from trainer.snapshot import HostCopy

RESCUE_SECONDS = 15.0
"""How long a state is offered to a store when something else has failed already."""

ASIDE_SHARE = 0.3
"""What of the grace period is left for saving on this machine what no store takes."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of the state on the host, and what its record will say; `host` owns the copy's memory.

    `frozen` is what the payload leaves out: it is not copied, since nothing changes it.
    """

    host: HostCopy
    payload: Mapping[str, Any]
    frozen: Frozen | None
    ledgers: tuple[FileDigest, ...]
    metrics: Mapping[str, Any] | None
    lines: list[dict[str, Any]]

    @property
    def step(self) -> int | None:
        """The global step of a checkpoint within an epoch."""
        return None if self.metrics is not None else self.payload["global_step"]


class Saver:
    """Decides when a checkpoint is due, copies it, and has it published beside the training.

    There are two copies at most: one in flight, and, while publishing takes longer than training, one that waits. With
    `--overlap wait` it is training that waits, and there is one, unless the store fails.
    """

    def __init__(self, config: JobConfig, folder: HeldFolder, report: Report, best_metric: str, stop: Stop) -> None:
        self._config, self._folder, self._report, self._stop = config, folder, report, stop
        self._best_metric = best_metric
        self._aside = Aside(config)
        self._costs = Costs()
        self._decision = Decision.NEW
        self._publisher: Publisher[Snapshot] = Publisher(
            self._publish, self._save_aside, self._warn,
            limit_seconds=config.max_unpublished_seconds, seconds_left=self._seconds_for_stores,
            one_by_one=config.overlap == "wait",
        )  # fmt: skip
        self._cadence = Cadence(config, self._costs, folder.history, report.console)
        self._saved: tuple[int, int, str] | None = None
        self._left_out = False
        self.last: str | None = None
        """The name of the checkpoint that was committed last."""

    def due(self) -> bool:
        """Whether it is time to save in the middle of an epoch; raises what publishing ended with."""
        self._publisher.check()
        is_publishing = not (self._publisher.is_idle or self._publisher.is_failing)
        is_due = self._cadence.is_due(is_publishing)
        return is_due and (not is_publishing or self._config.overlap == "wait")

    def save(
        self,
        content: Mapping[str, Any],
        ledgers: tuple[FileDigest, ...],
        metrics: Mapping[str, Any] | None,
        frozen: Frozen | None = None,
    ) -> None:
        """Copy what a checkpoint shall hold and publish it; nothing when it is what was saved last.

        `frozen` is what is left out of it, and stored once. `metrics`: those of the epoch that just ended; None in the
        middle of one. After a stop only what can be done in time is begun.
        """
        place = (content["epoch"], content["global_step"], content["progress"]["waits_for"])
        is_new = place != self._saved
        self._left_out = not self._is_time(is_new)
        if self._left_out or not is_new:
            return
        if frozen is not None:
            frozen.check()
        with self._report.phase("blocked_by_checkpoints"):
            earlier = self._publisher.room()
            self._publisher.check()
            host = HostCopy() if earlier is None else earlier.host
            started = time.monotonic()
            payload = host.take({"format": FORMAT, **content})
            self._costs.copy_seconds = time.monotonic() - started
        self._publisher.offer(Snapshot(host, payload, frozen, ledgers, metrics, list(self._report.metrics)))
        self._saved = place
        self._cadence.saved()

    def wait(self) -> None:
        """Until what was saved is committed; raises what publishing ended with. Not when there is no time for that.

        Raises Stopped when the newest state was left out: nothing may go on as if it were there.
        """
        if self._decision is not Decision.OLDER:
            self._publisher.drain()
        if self._left_out:
            self._stop.check()

    def rescue(self) -> None:
        """From now on a store that fails is not waited for long: something else has failed already."""
        self._publisher.hurry(RESCUE_SECONDS)

    def abandon(self) -> None:
        """Until nothing is being published, whatever comes of it."""
        self._publisher.hurry(0.0)
        if self._decision is not Decision.OLDER:
            self._publisher.settle()

    def _is_time(self, is_new: bool) -> bool:
        """Whether all can be published before the grace period is over, if a stop was asked for.

        That is what was offered before and, with `is_new`, a new snapshot.
        """
        if self._publisher.has_failed:  # if only on this machine
            return True
        num_waiting = self._publisher.num_waiting  # asked for first: what is taken up meanwhile counts twice at worst
        in_flight = self._publisher.seconds_in_flight
        self._decision = self._costs.decide(self._stop.seconds_left, in_flight, num_waiting, is_new=is_new)
        if self._decision is Decision.FLIGHT:
            self._publisher.drop_waiting()
            self._saved = None  # it may have been this very state
        if self._decision is not Decision.NEW:
            left = max(0.0, self._stop.seconds_left)
            self._report.console.warning(
                f"{self._costs.in_words()}, and {left:.1f} s are left: the steps since the last one are not saved"
            )
        return self._decision is Decision.NEW

    def _seconds_for_stores(self) -> float:
        return self._stop.seconds_left - ASIDE_SHARE * self._config.grace_seconds

    def _publish(self, snapshot: Snapshot) -> None:
        """Commit, and remove what it replaces. Called again after an error of the store."""
        with self._report.phase("publish"):
            previous = self._folder.parent
            record = self._commit(snapshot, self._folder.publish)
            self._note_costs()
            self.last = self._stop.newest = record.name
            self._report.left_out(record.frozen)
            if self._publisher.has_failed:
                self._report.console.line("checkpoint", f"{record.name} is published: the store works again")
            if previous is not None and (alarm := record.unchanged_since(previous)):
                self._report.console.warning(f"{record.name}: {alarm}")
            if snapshot.metrics is not None and snapshot.lines:
                self._folder.write_metrics(snapshot.lines)
            self._prune()

    def _note_costs(self) -> None:
        seconds, publisher = self._publisher.seconds_in_flight or 0.0, self._publisher
        self._costs.published(seconds, publisher.rested_seconds, again=publisher.has_failed)

    def _commit(self, snapshot: Snapshot, publish: Any, aside: Store | None = None) -> Record:
        snapshot.host.wait()
        payload, frozen, rest = snapshot.payload, snapshot.frozen, self._publisher.rest
        check_finite(payload, rest)
        file = None
        if frozen is not None:  # before what names it
            file = self._folder.keep_frozen(frozen.sha256, partial(Frozen.write, frozen), aside)
            payload = {**payload, "frozen": frozen.sha256}
        record: Record = publish(
            payload["epoch"],
            snapshot.step,
            partial(write, payload, rest=rest),
            global_step=payload["global_step"],
            round=payload["progress"]["round"],
            ledgers=snapshot.ledgers,
            frozen=file,
            metrics=dict(snapshot.metrics or {}),
            settings=payload["settings"],
            net_sha256=trained_digest(payload, rest),
            learning_rate=last_learning_rate(payload),
        )
        return record

    def _save_aside(self, snapshot: Snapshot, error: Exception) -> Unpublished:
        """Save on this machine what no store took; the error to end with, which says where."""
        try:
            aside = self._aside.open()
            record = self._commit(snapshot, partial(self._folder.save_aside, aside), aside)
        except (CloudError, OSError) as failure:
            return Unpublished(f"{error}; it could not be saved on this machine either: {failure}; submit again")
        self._stop.newest = f"{record.name}, in {self._aside.path}"
        files = ", ".join(file.key for file in record.parts)
        return Unpublished(
            f"{error}; the newest state, {record.name}, is saved in {self._aside.path}: submit again on this machine, "
            f"or copy {files} and ledger/ from there to --train_url, and then {record.place.record_key}"
        )

    def _warn(self, error: Exception) -> None:
        self._report.console.warning(
            f"publishing fails: {error}; training goes on and it is tried again, for up to "
            f"--max_unpublished_seconds {self._config.max_unpublished_seconds:g}"
        )

    def _prune(self) -> None:
        config = self._config
        keeping = Keeping(last=config.keep_last, best=config.keep_best, every=config.keep_every, score=self._score)
        try:
            self._folder.prune(keeping)
        except StoreError as error:  # what is kept too long is removed by the next prune
            self._report.console.warning(f"old checkpoints were not removed: {error}")

    def _score(self, record: Record) -> float | None:
        return score_of(record.metrics, self._best_metric) if self._best_metric else None
