"""Which shards there are, and what became of those known before."""

import logging
import re
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud.errors import Damaged
from cloud.store import Entry, Store

COMPRESSIONS = ("", ".gz", ".zst", ".bz2", ".xz")
INDEX_KEY = "_index.jsonl"
MAX_INDEX_BYTES = 2**30
MAX_LINE_BYTES = 16 * 2**20

_BLOCK_BYTES = 8 * 2**20
_NUM_DIGESTS = 4
_MAX_WAITING = 64
# A ".." or an empty part leads elsewhere on a file system; control characters forge lines in logs and ledgers;
# lone surrogates (names that are not UTF-8) can be neither sorted nor stored.
_HOSTILE = re.compile(r"(?:^|/)(?:\.\.?)?(?:/|$)|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """A shard as a ledger knows it: its identity, and the version it was last listed with."""

    key: str
    size: int
    sha256: str
    version: str


@dataclass(frozen=True)
class Changes:
    """What a listing has that is not known, what it has with other content, and what it has no more; sorted by key."""

    num_same: int
    appended: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    removed: tuple[str, ...]


def compare(listing: Iterable[Entry], known: Iterable[Known], digest: Callable[[Entry], str]) -> Changes:
    """Compare by content: where the size agrees and the version does not, `digest` (SHA-256 in hex) decides.

    Both are read once, in step, and keep in memory only what differs; `known` has each key once. Some stores list
    "a/b" before "a-b": what comes out of order is kept until its partner comes. A key listed twice in a row counts
    once; one that comes again later may be taken for appended. `digest` runs in up to four threads at once; its
    errors go through.
    """
    pool = ThreadPoolExecutor(_NUM_DIGESTS, "digest")
    try:
        return _Merge(pool, digest).run(_without_repeats(listing), iter(known))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # `with` would wait for the digests under way: a stop is quick


@dataclass
class _Merge:
    """One comparison on its way: entries and known shards whose partner has not come yet, and what is decided."""

    pool: ThreadPoolExecutor
    digest: Callable[[Entry], str]
    entries: dict[str, Entry] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    changed: dict[str, Entry] = field(default_factory=dict)
    num_same: int = 0
    waiting: deque[tuple[Entry, Known, Future[str]]] = field(default_factory=deque)

    def run(self, listing: Iterator[Entry], known: Iterator[Known]) -> Changes:
        """Always move the side that is behind, so that sorted partners meet without being kept."""
        entry, shard = next(listing, None), next(known, None)
        while entry is not None or shard is not None:
            if entry is not None and shard is not None and entry.key == shard.key:
                self._decide(entry, shard)
                entry, shard = next(listing, None), next(known, None)
            elif entry is not None and (shard is None or entry.key < shard.key):
                self._take_entry(entry)
                entry = next(listing, None)
            elif shard is not None:
                self._take_known(shard)
                shard = next(known, None)
        self._settle(0)
        return Changes(self.num_same, _by_key(self.entries), _by_key(self.changed), tuple(sorted(self.known)))

    def _take_entry(self, entry: Entry) -> None:
        partner = self.known.pop(entry.key, None)
        if partner is not None:
            self._decide(entry, partner)
        else:
            self.entries[entry.key] = entry

    def _take_known(self, shard: Known) -> None:
        partner = self.entries.pop(shard.key, None)
        if partner is not None:
            self._decide(partner, shard)
        else:
            self.known[shard.key] = shard

    def _decide(self, entry: Entry, shard: Known) -> None:
        if entry.size != shard.size:
            self.changed[entry.key] = entry
        elif entry.version and entry.version == shard.version:
            self.num_same += 1
        else:
            self.waiting.append((entry, shard, self.pool.submit(self.digest, entry)))
            self._settle(_MAX_WAITING)

    def _settle(self, num_left: int) -> None:
        """Take the digests that were asked for first, until only `num_left` are on their way."""
        while len(self.waiting) > num_left:
            entry, shard, digest = self.waiting.popleft()
            if digest.result() == shard.sha256:
                self.num_same += 1
            else:
                self.changed[entry.key] = entry


def _without_repeats(listing: Iterable[Entry]) -> Iterator[Entry]:
    last = None
    for entry in listing:
        if entry.key != last:
            yield entry
        last = entry.key


def _by_key(entries: Mapping[str, Entry]) -> tuple[Entry, ...]:
    # By code points, which is the order of the UTF-8 bytes too.
    return tuple(entries[key] for key in sorted(entries))


def list_shards(store: Store, suffixes: Sequence[str], *, under: str = "", start_after: str = "") -> Iterator[Entry]:
    """The shards below `under` (such as "eval/"), after the key `start_after`.

    A shard's name ends in one of `suffixes`, or in one and .gz, .zst, .bz2 or .xz; no part of it begins with "." or
    "_". Names that could mislead are passed over with a warning.
    """
    endings = tuple(suffix + compression for suffix in suffixes for compression in COMPRESSIONS)
    for entry in store.list(under, start_after):
        key = entry.key
        if not key.endswith(endings):
            continue
        if _HOSTILE.search(key):
            _log.warning("passed over: %r in %s is no name for a shard; rename it", key, store.url)
        elif not any(part.startswith((".", "_")) for part in key.split("/")):
            yield entry


class IndexEntry(BaseModel):
    """One line of `_index.jsonl`: what a census found in the shard `key` of this size and digest.

    `num_read` counts all examples, `num_examples` the usable ones, `labels` the usable ones by label; `bad` are
    (index, reason); `keys` are digests of the keys of the usable examples in order, where the task has keys.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    key: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"\A[0-9a-f]{64}\z")
    num_read: int = Field(ge=0)
    num_examples: int = Field(ge=0)
    labels: dict[str, Annotated[int, Field(ge=0)]]
    bad: tuple[tuple[Annotated[int, Field(ge=0)], str], ...]
    keys: tuple[str, ...] | None = None


def read_index(store: Store, wanted: Container[str]) -> dict[str, IndexEntry]:
    """What `_index.jsonl` says of the keys wanted, the last line of a key counting; nothing when there is none.

    Damaged when it is longer than 1 GiB, or a line is longer than 16 MiB or none of an index. That an entry is about
    the shard that is there is for the caller to check, by size and digest.
    """
    try:
        lines = enumerate(_lines(store), 1)
        entries = (_index_entry(store, number, line) for number, line in lines if line.strip())
        return {entry.key: entry for entry in entries if entry.key in wanted}
    except FileNotFoundError:  # or not any more
        return {}


def _lines(store: Store) -> Iterator[bytes]:
    size = store.stat(INDEX_KEY).size
    if size > MAX_INDEX_BYTES:
        raise Damaged(
            f"{INDEX_KEY} in {store.url}: {size} bytes, more than {MAX_INDEX_BYTES}; write it anew or delete it"
        )
    rest = b""
    for start in range(0, size, _BLOCK_BYTES):
        *lines, rest = (rest + store.read(INDEX_KEY, start, min(start + _BLOCK_BYTES, size))).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            break
    yield rest


def _index_entry(store: Store, number: int, line: bytes) -> IndexEntry:
    where = f"{INDEX_KEY} in {store.url}, line {number}"
    if len(line) > MAX_LINE_BYTES:
        raise Damaged(f"{where}: longer than {MAX_LINE_BYTES} bytes; write it anew or delete it")
    try:
        return IndexEntry.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the line"
        raise Damaged(f"{where}: {place}: {first['msg']}; write it anew or delete it") from None
