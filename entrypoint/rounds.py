"""The shards under data_url against the ledger: what is new, its census, and the round that it forms."""

from collections.abc import Mapping, Sequence

from cloud.cache import ShardCache, Wanted

from cloud.catalog import Changes, IndexEntry, Known, compare, list_shards, read_index
from cloud.store import Entry, Store
from entrypoint.places import EVAL
from entrypoint.report import Report
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.census import CensusRules, against_earlier, check_bad_examples, take_census
from trainer.errors import DataError
from trainer.ledger import Ledger, Round, Shard
from trainer.opened import OpenShards
from trainer.plan import next_round


class Rounds:
    """Looks at the data, and forms rounds of what it finds. `other`: a run whose rounds are repeated, if one is."""

    def __init__(
        self, config: JobConfig, data: Store, cache: ShardCache, opened: OpenShards, report: Report, stop: Stop
    ) -> None:
        self._config, self._data, self._cache, self._opened = config, data, cache, opened
        self._report, self._stop = report, stop
        self.other: Ledger | None = None

    def look(self, ledger: Ledger) -> Changes:
        """List the data and compare it with everything trained so far. DataError where the settings refuse a change."""
        with self._report.phase("catalog"):
            changes = self._compare(ledger)
        self._report.changed(changes)
        if changes.removed and self._config.on_removed_shard == "fail":
            raise DataError(f"{changes.removed[0]}: gone from {self._data.url}; restore it (--on_removed_shard fail)")
        if changes.changed:
            self._check_changed(changes, ledger)
        return changes

    def check_unfinished(self, round: Round, changes: Changes) -> None:
        """DataError when a shard that the rest of this round needs is gone or has other content."""
        needed = {shard.key for shard in round.shards} | {replay.shard.key for replay in round.replay}
        for key, what in [(key, "gone") for key in changes.removed] + [(e.key, "changed") for e in changes.changed]:
            if key in needed:
                raise DataError(
                    f"{key}: {what} while round {round.number}, which trains on it, is unfinished; restore it"
                )

    def next(self, ledger: Ledger, changes: Changes) -> Round | None:
        """The round that the new shards form; None when there is nothing new to train."""
        changed = changes.changed if self._config.on_changed_shard != "ignore" else ()
        new = self._members([*changes.appended, *changed], len(ledger) + 1)
        if not any(not entry.key.startswith(EVAL) for entry in new):
            if not len(ledger):
                raise DataError(self._no_shards())
            return None
        with self._report.phase("census"):
            shards = self._census(new, self._earlier(ledger, [entry.key for entry in changed]))
        ignored = [entry.key for entry in changes.changed if entry not in new]
        round = next_round(ledger, shards, [*changes.removed, *ignored], self._config, self._config.cache_bytes // 2)
        if round is None and not len(ledger):
            raise DataError(f"{self._data.url}: none of its {len(shards)} shards holds an example to train on")
        return round

    def _compare(self, ledger: Ledger) -> Changes:
        known = (Known(shard.key, shard.size, shard.sha256, shard.version) for shard in ledger.known())
        if not self._config.shard_keys_grow or not len(ledger):
            return compare(list_shards(self._data, self._suffixes), known, self._digest)
        last = max((shard.key for shard in ledger.known() if not shard.key.startswith(EVAL)), key=str.encode)
        new = list_shards(self._data, self._suffixes, start_after=last, excluding=EVAL)
        evaluation = list_shards(self._data, self._suffixes, under=EVAL)
        known_evaluation = (one for one in known if one.key.startswith(EVAL))
        changes = compare(evaluation, known_evaluation, self._digest)
        return Changes(changes.num_same, (*new, *changes.appended), changes.changed, changes.removed)

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return self._opened.task.suffixes

    def _digest(self, entry: Entry) -> str:
        """What the content is, where the listing alone does not tell."""
        self._stop.check()
        _, sha256 = self._cache.acquire(Wanted(entry.key, entry.size, None))
        self._cache.release(entry.key)
        return sha256

    def _check_changed(self, changes: Changes, ledger: Ledger) -> None:
        keys = [entry.key for entry in changes.changed]
        for key, earlier in self._earlier(ledger, keys).items():
            can_diff = earlier.keys is not None or earlier.split == "eval"
            rule = self._config.on_changed_shard or ("diff" if can_diff else "fail")
            if rule == "fail":
                raise DataError(
                    f"{key}: its content changed after it was trained; restore it and put what is new in another "
                    "shard, or pass --on_changed_shard ignore"
                )

    def _earlier(self, ledger: Ledger, keys: Sequence[str]) -> dict[str, Shard]:
        wanted = frozenset(keys)
        return {shard.key: shard for shard in ledger.known() if shard.key in wanted} if wanted else {}

    def _members(self, entries: Sequence[Entry], number: int) -> list[Entry]:
        """The entries that belong to round `number`: all, or what another run's ledger says."""
        if self.other is None:
            return list(entries)
        if number > len(self.other):
            return []
        keys = {shard.key for shard in self.other.round(number).shards}
        members = [entry for entry in entries if entry.key in keys]
        missing = sorted(keys - {entry.key for entry in members})
        if missing:
            raise DataError(f"{missing[0]}: in round {number} of --rounds_from, but not new under {self._data.url}")
        return members

    def _no_shards(self) -> str:
        names = ", ".join(f"*{suffix}" for suffix in self._suffixes)
        return f"{self._data.url}: no shards; task {self._config.task} reads {names}, also compressed"

    def _census(self, entries: Sequence[Entry], earlier: Mapping[str, Shard]) -> list[Shard]:
        has_eval = any(entry.key.startswith(EVAL) for entry in entries)
        rules = CensusRules(
            on_bad_example=self._config.on_bad_example,
            max_bad_examples=self._config.max_bad_examples,
            eval_fraction=0.0 if has_eval else self._config.eval_fraction,
        )
        index = {} if rules.eval_fraction else read_index(self._data)
        todo = [entry for entry in entries if not _matches(index.get(entry.key), entry)]
        self._cache.prefetch([Wanted(entry.key, entry.size, None) for entry in todo])
        shards = []
        with self._report.console.progress(len(entries), "census", "shards") as progress:
            for entry in entries:
                self._stop.check()
                shards.append(self._one(entry, index.get(entry.key), earlier.get(entry.key), rules))
                progress.update()
        check_bad_examples(shards, rules)
        return shards

    def _one(self, entry: Entry, indexed: IndexEntry | None, earlier: Shard | None, rules: CensusRules) -> Shard:
        """The census of one shard, from the index where that knows this size."""
        if entry.size > self._config.max_shard_bytes:
            raise DataError(f"{entry.key}: {entry.size} bytes, more than --max_shard_bytes")
        split = "eval" if entry.key.startswith(EVAL) else "train"
        if indexed is not None and _matches(indexed, entry) and earlier is None:
            return Shard(**indexed.model_dump(), version=entry.version, split=split)
        path, sha256 = self._cache.acquire(Wanted(entry.key, entry.size, None))
        try:
            with self._opened.read(entry.key, path, sha256) as examples:
                found = Shard(key=entry.key, size=entry.size, sha256=sha256, version=entry.version, split=split)
                shard = take_census(self._opened.task, examples, found, rules, self._stop.check)
                return shard if earlier is None else against_earlier(self._opened.task, examples, shard, earlier)
        finally:
            self._cache.release(entry.key)


def _matches(indexed: IndexEntry | None, entry: Entry) -> bool:
    return indexed is not None and indexed.size == entry.size
