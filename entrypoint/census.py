"""The census of shards where they are: which there are, and what each of them holds."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Lock

from cloud.cache import ShardCache, Wanted
from cloud.catalog import INDEX_KEY, IndexEntry, list_shards, read_index
from cloud.errors import CacheTooSmall, Gone, Unreachable
from cloud.store import Entry, Store
from entrypoint.console import Console
from entrypoint.places import EVAL
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.census import CensusRules, against_earlier, check_bad_examples, take_census
from trainer.errors import DataError, NotAShard, shown
from trainer.ledger import Shard
from trainer.opened import OpenShards

MAX_NAMED = 10
TOLERANT = CensusRules(on_bad_example="skip", max_bad_examples=sys.maxsize)


class Census:
    """Lists the shards of a store, and reads those that are asked for, fetched ahead."""

    def __init__(
        self, config: JobConfig, data: Store, cache: ShardCache, opened: OpenShards, console: Console, stop: Stop
    ) -> None:
        self._config, self._data, self._cache, self._opened = config, data, cache, opened
        self._console, self._stop = console, stop
        self._large = Lock()

    def listing(self, *, under: str = "", start_after: str = "") -> Iterator[Entry]:
        """The shards that the task reads, sorted by key."""
        suffixes = self._opened.task.suffixes
        return list_shards(self._data, suffixes, under=under, start_after=start_after)

    def digest(self, entry: Entry) -> str:
        """What the content is, where a listing alone does not tell."""
        self._stop.check()
        # Four threads ask at once: large ones come one by one, or they would not fit into the cache together.
        turn = self._large if self._takes_cache(entry, 1 / 8) else nullcontext()
        with turn, self._file_of(entry) as (_, sha256):
            return sha256

    def no_shards(self) -> str:
        """What to say when there are none."""
        names = ", ".join(f"*{suffix}" for suffix in self._opened.task.suffixes)
        task = self._config.task
        return f"{self._data.url}: no shards there; task {task} reads {names}, plain or compressed; mend --data_url"

    def take(
        self,
        entries: Sequence[Entry],
        earlier: Mapping[str, Shard] | None = None,
        *,
        eval_fraction: float = 0.0,
        use_index: bool = True,
        tolerant: bool = False,
    ) -> list[Shard]:
        """What each shard holds. `earlier`: those that were edited, as they were before.

        `tolerant`: these were taken before, and what was passed over then is passed over again.

        DataError for a shard that cannot be read or is empty, and for bad examples unless they are to be skipped;
        CacheTooSmall for one that would not fit beside another in training.
        """
        earlier = earlier or {}
        rules = TOLERANT if tolerant else self._rules()
        rules = replace(rules, eval_fraction=eval_fraction)
        self._check_sizes(entries)
        keys = {entry.key for entry in entries} - earlier.keys()
        index = read_index(self._data, keys) if use_index and not rules.eval_fraction else {}
        indexed = {entry.key: index[entry.key] for entry in entries if _knows(index, entry)}
        unread = [Wanted(entry.key, entry.size, None) for entry in entries if entry.key not in indexed]
        self._cache.prefetch(unread)
        shards = []
        with self._console.progress(len(entries), "census", "shards") as progress:
            for entry in entries:
                self._stop.check()
                known = indexed.get(entry.key)
                shards.append(self._indexed(known, entry) if known else self._one(entry, earlier.get(entry.key), rules))
                progress.update()
        check_bad_examples(shards, rules)
        self._name_bad(shards)
        self._name_others([shard.key for shard in shards if shard.split == "other"])
        return shards

    def _name_bad(self, shards: Sequence[Shard]) -> None:
        """Say which examples are passed over; the ledger names them all."""
        bad = [f"{shard.key}: {reason}" for shard in shards for _, reason in shard.bad]
        for text in bad[:MAX_NAMED]:
            self._console.warning(f"passed over {text}")
        if len(bad) > MAX_NAMED:
            self._console.warning(f"passed over {len(bad) - MAX_NAMED} more bad examples")

    def _name_others(self, keys: Sequence[str]) -> None:
        """Say which files are no shards."""
        if keys:
            text = f"no shards of task {self._config.task}, passed over: {shown(keys)}"
            self._console.line("data", text, others=keys)

    def _rules(self) -> CensusRules:
        config = self._config
        return CensusRules(on_bad_example=config.on_bad_example, max_bad_examples=config.max_bad_examples)

    def _check_sizes(self, entries: Sequence[Entry]) -> None:
        """Training holds one window of shards while evaluation opens another shard: each may take half of the cache."""
        for entry in entries:
            if self._takes_cache(entry, 1 / 2):
                raise CacheTooSmall(
                    f"{entry.key}: {entry.size:,} bytes, more than half of --cache_bytes "
                    f"{int(self._config.cache_bytes):,}; raise it to {2 * entry.size:,} or more"
                )

    def _takes_cache(self, entry: Entry, share: float) -> bool:
        """Whether a shard takes more than a share of the cache; one that is read in place takes nothing."""
        return entry.size > share * self._config.cache_bytes and self._data.local_path(entry.key) is None

    def _indexed(self, known: IndexEntry, entry: Entry) -> Shard:
        """What the index says. What is fetched is verified then; what is read in place never would be."""
        if self._data.local_path(entry.key) is not None and self.digest(entry) != known.sha256:
            raise DataError(f"{entry.key}: not the content that {INDEX_KEY} tells of; write it anew: perdure index")
        return Shard(**known.model_dump(), version=entry.version, split=_split(entry))

    @contextmanager
    def _file_of(self, entry: Entry) -> Iterator[tuple[Path, str]]:
        """What is gone since it was listed may never have been needed: another listing tells."""
        try:
            with self._cache.file_of(Wanted(entry.key, entry.size, None)) as file:
                yield file
        except Gone as error:
            raise Unreachable(f"{entry.key}: gone since it was listed; submit again") from error

    def _one(self, entry: Entry, earlier: Shard | None, rules: CensusRules) -> Shard:
        if entry.size > self._config.max_shard_bytes:
            limit = int(self._config.max_shard_bytes)
            raise DataError(f"{entry.key}: {entry.size:,} bytes, more than --max_shard_bytes {limit:,}; split it")
        with self._file_of(entry) as (path, sha256):
            task, found = self._opened.task, _found(entry, sha256)
            try:
                with self._opened.read(entry.key, path, sha256) as examples:
                    shard = take_census(task, examples, found, rules, self._stop.check)
                    return shard if earlier is None else against_earlier(task, examples, shard, earlier)
            except NotAShard:
                return replace(found, split="other")


def _found(entry: Entry, sha256: str) -> Shard:
    return Shard(key=entry.key, size=entry.size, sha256=sha256, version=entry.version, split=_split(entry))


def _split(entry: Entry) -> str:
    return "eval" if entry.key.startswith(EVAL) else "train"


def _knows(index: Mapping[str, IndexEntry], entry: Entry) -> bool:
    return entry.key in index and index[entry.key].size == entry.size
