"""The shards under data_url against the ledger: what is new, and the round that it forms."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cloud.catalog import Changes, Known, compare
from cloud.store import Entry
from entrypoint.census import Census
from entrypoint.phrases import shown
from entrypoint.places import EVAL
from entrypoint.report import Report
from entrypoint.settings import JobConfig
from trainer.errors import DataError
from trainer.ledger import Ledger, Round, Shard
from trainer.outline import Outline
from trainer.plan import next_round


class Rounds:
    """Looks at the data, and forms rounds of what it finds. `other`: the ledger of --rounds_from.

    `sets` are the task's own settings that are read when a round starts.
    """

    def __init__(self, config: JobConfig, census: Census, report: Report, sets: Mapping[str, Any]) -> None:
        self._config, self._census, self._report, self._sets = config, census, report, sets
        self.other: Ledger | None = None

    def look(self, ledger: Ledger) -> Changes:
        """List the data and compare it with everything trained so far. DataError where the settings refuse a change."""
        with self._report.phase("catalog"):
            changes = self._compare(ledger)
        self._report.changed(changes)
        if not (changes.num_same or changes.appended or changes.changed):
            raise DataError(self._census.no_shards())  # after a first round too: rather a wrong URL than all removed
        if changes.removed and self._config.on_removed_shard == "fail":
            raise DataError(
                f"{changes.removed[0]}: trained before, and gone; restore it, or go on without it: "
                "--on_removed_shard ignore"
            )
        for shard in _earlier(ledger, changes.changed):
            self._check_changed(shard)
        return changes

    def num_waiting(self, changes: Changes) -> int:
        """How many shards the next round may be formed of."""
        return len(changes.appended) + len(self.edited(changes))

    def next(self, ledger: Ledger, changes: Changes) -> Round | None:
        """The round that the new shards form; None when there is nothing new to train."""
        edited = self.edited(changes)
        new = self._members([*changes.appended, *edited], len(ledger) + 1)
        if all(entry.key.startswith(EVAL) for entry in new):
            if not len(ledger):
                raise DataError(self._census.no_shards())
            return None
        if self._config.eval_url and not len(ledger) and not any(entry.key.startswith(EVAL) for entry in new):
            raise DataError(f"--eval_url {self._config.eval_url}: no shards there; mend the URL, or leave it out")
        with self._report.phase("census"), self._report.fetching():
            earlier = {shard.key: shard for shard in _earlier(ledger, edited)}
            shards = self._census.take(new, earlier, eval_fraction=self._eval_fraction(ledger, new))
        unusable = [entry.key for entry in changes.changed if entry not in edited]
        gone, window_bytes = [*changes.removed, *unusable], self._config.cache_bytes // 2
        round = next_round(ledger, shards, gone, self._config, window_bytes, self._sets)
        if round is None and not len(ledger):
            others = [shard.key for shard in shards if shard.split == "other"]
            if len(others) == len(shards):
                raise DataError(f"no data of task {self._config.task} in {shown(others)}; mend --data_url")
            raise DataError(f"none of the {len(shards)} shards holds an example to train on; see --on_bad_example")
        return round

    def again(self, ledger: Ledger, outline: Outline) -> Round:
        """A round whose ledger is lost, after those of `ledger`, by another census of its shards.

        DataError when they are not all there as they were then.
        """
        entries = list(self._census.listing())
        keys = set(outline.members(entry.key for entry in entries))
        if missing := len(outline.shards) - len(keys):
            raise DataError(f"{missing} of its {len(outline.shards)} shards are gone")
        members = [entry for entry in entries if entry.key in keys]
        earlier = {shard.key: shard for shard in ledger.known() if shard.key in keys}
        fraction = self._eval_fraction(ledger, members)
        with self._report.phase("census"), self._report.fetching():
            shards = self._census.take(members, earlier, eval_fraction=fraction, tolerant=True)
        return outline.rebuilt(ledger, shards, self._config)

    def rebuilt(self, key: str, reason: str) -> None:
        """Say that a ledger file was lost and is there again."""
        self._report.console.warning(f"{reason}; rebuilt from the data, which agrees with its digest", key=key)

    def edited(self, changes: Changes) -> tuple[Entry, ...]:
        """The changed shards, as far as the settings let them count."""
        return () if self._config.on_changed_shard == "ignore" else changes.changed

    def _eval_fraction(self, ledger: Ledger, new: Sequence[Entry]) -> float:
        """The share of examples to hold out; none when round 1 has evaluation shards, which settles it for good."""
        if not self._config.eval_fraction:
            return 0.0
        first: Iterable[Entry | Shard] = ledger.shards(1) if len(ledger) else new
        return 0.0 if any(one.key.startswith(EVAL) for one in first) else self._config.eval_fraction

    def _compare(self, ledger: Ledger) -> Changes:
        known = (Known(shard.key, shard.size, shard.sha256, shard.version) for shard in ledger.known())
        if not self._config.shard_keys_grow or not len(ledger):
            return compare(self._census.listing(), known, self._census.digest)
        # By the user's promise new keys sort after the old ones: one request from the last finds them, and the old
        # ones are taken as they were. Evaluation shards are few and made no promise.
        extent = ledger.extent()
        found = list(self._census.listing(start_after=extent.last_key))
        if extent.last_key > EVAL:  # else they come after it too
            found += self._census.listing(under=EVAL)
        evaluation = [entry for entry in found if entry.key.startswith(EVAL)]
        new = (entry for entry in found if not entry.key.startswith(EVAL))
        known_evaluation = (one for one in known if one.key.startswith(EVAL)) if extent.num_untrained else ()
        changes = compare(evaluation, known_evaluation, self._census.digest)
        num_same = extent.num_train + changes.num_same
        return Changes(num_same, (*changes.appended, *new), changes.changed, changes.removed)

    def _check_changed(self, earlier: Shard) -> None:
        can_diff = earlier.keys is not None or earlier.split != "train" or not earlier.num_examples
        rule = self._config.on_changed_shard or ("diff" if can_diff else "fail")
        if rule == "fail":
            raise DataError(
                f"{earlier.key}: its content changed after it was trained; restore it and put what is new in another "
                "shard, or do without it: --on_changed_shard ignore"
            )

    def _members(self, entries: Sequence[Entry], number: int) -> list[Entry]:
        """The entries that belong to round `number`: all, or those that another run's ledger names."""
        if self.other is None:
            return list(entries)
        if number > len(self.other):
            return []
        keys = {shard.key for shard in self.other.round(number).shards}
        members = [entry for entry in entries if entry.key in keys]
        missing = sorted(keys - {entry.key for entry in members})
        if missing:
            raise DataError(f"{missing[0]}: in round {number} of --rounds_from, but not new here")
        return members


def check_unfinished(ledger: Ledger, round: Round, changes: Changes) -> None:
    """DataError when a shard that the rest of this round needs is gone or has other content."""
    needed = {shard.key for shard in round.shards if shard.split != "other"}
    needed |= {replay.shard.key for replay in round.replay} | {shard.key for _, shard in ledger.evaluation()}
    what = dict.fromkeys(changes.removed, "gone") | {entry.key: "changed" for entry in changes.changed}
    for key in sorted(needed & what.keys()):
        raise DataError(f"{key}: {what[key]}, and round {round.number}, which needs it, is unfinished; restore it")


def _earlier(ledger: Ledger, entries: Sequence[Entry]) -> list[Shard]:
    """The shards of these keys as the ledger knows them."""
    keys = {entry.key for entry in entries}
    return [shard for shard in ledger.known() if shard.key in keys] if keys else []
