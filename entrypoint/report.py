"""What this attempt did: the seconds of its phases, its outcome, its metrics, and the lines that tell of it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cloud.catalog import Changes
from cloud.records import FileDigest, Outcome, Rejected
from entrypoint.console import Console
from entrypoint.console import Progress as Bar
from entrypoint.phrases import count, duration, new_labels, shown

if TYPE_CHECKING:  # torch takes seconds: the claim does not wait for it
    from trainer.ledger import Round
    from trainer.loop import EpochEnd
    from trainer.plan import Progress, Target

PHASES = (
    "startup",
    "claim",
    "predownload",
    "restore",
    "catalog",
    "census",
    "train",
    "evaluate",
    "blocked_by_checkpoints",
    "publish",
    "total",
)


class Report:
    """Gathers, and says, what the outcome will hold."""

    def __init__(self, console: Console, started: float) -> None:
        """`started`: when the process did, by time.monotonic."""
        self.console = console
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.seconds["startup"] = time.monotonic() - started
        self.metrics: list[dict[str, Any]] = []
        self.progress: Progress | None = None
        self.best_metric = ""
        self.told_removed: set[str] = set()
        """Keys of shards that are known to be gone: the attempt before, or this one, has said so."""
        self._started = started
        self._facts: dict[str, Any] = {"bytes_left_out": 0}
        self._first: Progress | None = None
        self._fetch: Bar | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to a phase."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - started

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Show the bytes that `fetched` is told of while the block runs."""
        with self.console.progress(None, "fetch", "B", tells_end=False) as self._fetch:
            yield
        self._fetch = None

    def fetched(self, num_bytes: int) -> None:
        """So many bytes came from a store; any thread may say so."""
        fetch = self._fetch
        if fetch is not None:
            fetch.update(num_bytes)

    def began(self, attempt: int, url: str, task: str) -> None:
        """The first line of every attempt."""
        self._facts["attempt"] = attempt
        self.console.headline("attempt", f"{attempt} of {url}   task {task}", attempt=attempt, url=url, task=task)

    def resumed(self, name: str | None, rejected: Sequence[Rejected], origin: str = "") -> None:
        """Which checkpoint is continued, and why others are not; `origin`: the one of another run to begin with."""
        self._facts["resumed_from"] = name
        self.refused(rejected)
        for names, reason in _by_reason(rejected):
            self.console.warning(f"passed over {shown(names)}: {reason}")
        refused = ", ".join(one.name for one in rejected[:3]) + (", ..." if len(rejected) > 3 else "")
        done = self.progress
        place = name or ("none: a new run" + (f" that begins with {origin}" if origin else ""))
        if name and done:
            place = f"{name} (epoch {done.epoch}, step {done.global_step})  verified"
        self.console.line("checkpoint", f"{place}        refused: {refused or 'none'}", name=name)

    def refused(self, rejected: Sequence[Rejected]) -> None:
        """What was not taken as the newest checkpoint; in the outcome also where nothing could be continued."""
        self._facts["rejected"] = tuple(rejected)

    def changed(self, changes: Changes) -> None:
        """What the catalog found, before any census."""
        for kind, entries in (("appended", changes.appended), ("changed", changes.changed)):
            self._add(f"{kind}_shards", [entry.key for entry in entries])
        gone = [key for key in changes.removed if key not in self.told_removed]
        self._add("removed_shards", changes.removed)
        self.told_removed |= set(changes.removed)
        for what, keys in (("gone", gone), ("edited", [entry.key for entry in changes.changed])):
            if keys:
                text = f"{count(len(keys), 'shard')} {what} since trained: {shown(keys)}"
                self.console.line("data", text, **{what: list(keys)})

    def left_out(self, file: FileDigest | None) -> None:
        """A checkpoint was committed whose frozen tensors are in a file of their own."""
        if file is None:
            return
        if not self._facts["bytes_left_out"]:
            text = f"{file.key} holds what training never changes: {file.size:,} bytes less in every checkpoint"
            self.console.line("checkpoint", text, frozen=file.key, num_bytes=file.size)
        self._facts["bytes_left_out"] += file.size

    def data(self, round: "Round", num_same: int, labels: Sequence[str]) -> None:
        """The data of a new round; `labels` are those that nobody knows yet."""
        new = [shard for shard in round.shards if shard.split == "train"]
        self._facts["new_examples"] = self._facts.get("new_examples", 0) + round.num_new
        edited = sum(1 for shard in new if shard.new is not None)
        vanished = sum(shard.num_vanished for shard in new)
        counts = ((num_same, "shard", " as before"), (len(new) - edited, "new shard", ""), (edited, "edited shard", ""))
        shards = ", ".join(f"{count(num, noun)}{how}" for num, noun, how in counts if num)
        num_eval = sum(1 for shard in round.shards if shard.split == "eval")
        shards += f" and {num_eval} for evaluation" if num_eval else ""
        examples = count(round.num_new, "new example" if edited else "example")
        gone = f", {vanished} vanished" if edited else ""
        text = f"{shards}: {examples}{gone}{new_labels(labels)}"
        fields = {"num_same": num_same, "num_new": len(new), "num_eval": num_eval, "labels": list(labels)}
        self.console.line("data", text, **fields)

    def same(self, num_same: int, num_waiting: int) -> None:
        """The data when no round starts: how many shards are known, and how many wait for the next one."""
        waits = f", {num_waiting} waiting for the next round" if num_waiting else ", none new"
        self.console.line("data", f"{count(num_same, 'shard')} as before{waits}", num_same=num_same)

    def waits(self, edited: Sequence[str], asked: str | None) -> None:
        """Say which shards were edited and what the settings ask for, where only a next round would heed it."""
        if edited:
            text = f"{shown(edited)}: edited, but without a new example: what else changed waits for the next round, "
            self.console.line("data", f"{text}which one new example starts", edited=list(edited))
        if asked:
            self.console.warning(asked)

    def plan(self, round: "Round", goal: "Target", done: "Progress", steps: int) -> None:
        """What is left of a round: so many steps."""
        left = goal.num_examples - done.example
        old = f" + {round.num_old} old" if round.num_old else ""
        rate = done.train_seconds / done.num_examples if done.num_examples else 0.0
        takes = f", about {duration(left * rate)}" if rate else ""
        going = f" from example {done.example} of {goal.num_examples}" if done.example else ""
        text = f"round {round.number}: {count(goal.num_epochs, 'epoch')} over {round.num_new} new{old}{going}, "
        self.console.line("plan", f"{text}{count(steps, 'step')}{takes}", round=round.number, num_steps=steps)
        self.trains(done)

    @property
    def has_trained(self) -> bool:
        """Whether this attempt had anything to train."""
        return self._first is not None

    def trains(self, progress: "Progress") -> None:
        """Training begins or goes on from here."""
        if self._first is None:
            self._first = replace(progress)

    def epoch(self, progress: "Progress", end: "EpochEnd") -> None:
        """An epoch is over."""
        self.metrics.append(
            {
                "kind": "epoch",
                "attempt": self._facts["attempt"],
                "round": progress.round,
                "epoch": progress.epoch,
                "global_step": progress.global_step,
                "num_examples": progress.num_examples,
                "learning_rate": end.learning_rate,
                "loss": end.loss,
                "metrics": dict(end.metrics),
                "seconds": end.seconds,
            }
        )
        scores = [f"{name} {value:.4g}" for name, value in end.metrics.items() if isinstance(value, float)]
        trained = [] if end.loss is None else [f"loss {end.loss:.4g}"]
        evaluated = [f"evaluation: {', '.join(scores)}"] if scores else []
        self.console.line("epoch", f"{progress.epoch}: {'; '.join([*trained, *evaluated])}", **self.metrics[-1])
        if len(self.metrics) == 1:
            self._check_best_metric(end.metrics)

    def round(self, end: Mapping[str, Any], advice: str) -> None:
        """A round is over. Of the first one the last epoch's line has said all."""
        from entrypoint.ended import headline, lines

        self.metrics.append({"attempt": self._facts["attempt"], **end})
        self._facts["promoted"] = end["promoted"]
        if end["round"] > 1 and end["metrics"]:
            self.console.table("round", headline(end), lines(end["metrics"]), **self.metrics[-1])
        if not end["promoted"]:
            self.console.warning(f"model/ is left as it was: {end['kept_because']}; {advice}")

    def early(self, progress: "Progress") -> None:
        """A round that --early_stopping_epochs ended."""
        score = f"{self.best_metric.removeprefix('-')} has not improved since epoch {progress.best_epoch}"
        self.console.line("plan", f"round {progress.round} ends early: {score}", round=progress.round)

    def saved(self, name: str | None) -> None:
        """What a stopped attempt leaves behind."""
        self.console.line("stopped", f"saved {name}. Submit again to continue.", name=name)

    def done(self, advice: str = "Submit again when there are new shards.") -> None:
        """The last line of an attempt that came to the end."""
        epoch = self.progress.epoch if self.progress else 0
        what = f"epoch {epoch}{self._last_score()}" if self.has_trained else f"nothing new since epoch {epoch}"
        if self.progress and self.progress.kept_because:
            what += ", whose model was not promoted"
        self.console.line("done", f"{what}. {advice}", epoch=epoch)

    def outcome(self, kind: str, exit_code: int, error: str | None) -> Outcome:
        """What `attempts/NNNNNN.json` will say."""
        self.seconds["total"] = time.monotonic() - self._started
        first, facts = self._first, {name: value for name, value in self._facts.items() if name != "attempt"}
        place: dict[str, Any] = {}
        if (progress := self.progress) is not None:
            start = first or progress
            place = {
                "first_global_step": start.global_step,
                "last_global_step": progress.global_step,
                "epoch": progress.epoch,
                "round": progress.round,
                "num_examples_trained": progress.num_examples - start.num_examples,
            }
        seconds = {name: round(value, 6) for name, value in self.seconds.items()}
        seconds["train"] = round(seconds["train"] - seconds["evaluate"] - seconds["blocked_by_checkpoints"], 6)
        return Outcome.model_validate(
            {"outcome": kind, "exit_code": exit_code, "error": error, **facts, **place, "seconds": seconds}
        )

    def _check_best_metric(self, metrics: Mapping[str, Any]) -> None:
        """Only the first evaluation shows which scores there are."""
        from trainer.evaluate import score_of

        name = self.best_metric.removeprefix("-")
        if name and metrics and score_of(metrics, name) is None:
            known = ", ".join(score for score, value in metrics.items() if isinstance(value, float))
            self.console.warning(
                f"--best_metric {name}: no such score, so that no epoch is the best; there are: {known}"
            )

    def _add(self, name: str, keys: Sequence[str]) -> None:
        """Keys join those found by an earlier catalog of this attempt, each once."""
        self._facts[name] = tuple(dict.fromkeys((*self._facts.get(name, ()), *keys)))

    def _last_score(self) -> str:
        last = next((line for line in reversed(self.metrics) if line["kind"] == "epoch"), None)
        if last is None:
            return ""
        metric, metrics = self.best_metric.removeprefix("-"), last["metrics"]
        if not isinstance(metrics.get(metric), float):
            return f": loss {last['loss']:.4g}" if last["loss"] is not None else ""
        return f": {metric} {metrics[metric]:.3f}{_old_and_new(metrics, metric)}"


def _old_and_new(metrics: Mapping[str, Any], metric: str) -> str:
    """The score of the labels known before the newest round, and of those that it brought."""
    old, new = (metrics.get(group, {}).get(metric) for group in ("old_labels", "new_labels"))
    return "" if old is None or new is None else f" (old labels {old:.3f}, new {new:.3f})"


def _by_reason(rejected: Sequence[Rejected]) -> list[tuple[list[str], str]]:
    """Names that share a reason together: a folder that was taken over may hold a hundred."""
    names: dict[str, list[str]] = {}
    for one in rejected:
        names.setdefault(one.reason, []).append(one.name)
    return [(same, reason) for reason, same in names.items()]
