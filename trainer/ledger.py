"""What was trained in which round: shards as the census found them, the old examples drawn, the settings of the round.

A ledger file is JSON lines: a header, one line per shard (sorted by key), one line per shard that old examples were
drawn from. This module gives the lines their meaning; who stores them, and how they are sealed, is not its business.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

from trainer.errors import CheckpointError
from trainer.heading import EXTENT, HEADING, Extent, Heading

Lines = Callable[[], Iterator[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard as the census found it. Indices are those of the task's sequence; usable: neither bad nor held out.

    `labels` counts the usable examples of each label ("" for none). In a shard that was edited (`--on_changed_shard
    diff`) `new` names the examples of this round; the other usable ones were trained before. `split` is "train",
    "eval", or "other": a file that is no shard, in the ledger so that it need not be read again.
    """

    key: str
    size: int
    sha256: str
    version: str = ""
    split: str = "train"
    num_read: int = 0
    num_examples: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    bad: tuple[tuple[int, str], ...] = ()
    held_out: tuple[int, ...] = ()
    held_out_labels: Mapping[str, int] = field(default_factory=dict)
    keys: tuple[str, ...] | None = None
    new: tuple[int, ...] | None = None
    new_labels: Mapping[str, int] | None = None
    num_vanished: int = 0

    @property
    def sort_key(self) -> bytes:
        """Keys sort by their UTF-8 bytes, as every store lists them."""
        return self.key.encode()

    @property
    def num_new(self) -> int:
        """How many examples the shard brings to its round."""
        return self.num_examples if self.new is None else len(self.new)

    def labels_of_new(self) -> Mapping[str, int]:
        """The examples per label that the shard brings to its round."""
        return self.labels if self.new is None else self.new_labels or {}

    def old_labels(self) -> dict[str, int]:
        """Usable examples per label that an earlier round trained, for a shard that is looked at from a later one."""
        new = self.new_labels or {}
        return {label: left for label, num in self.labels.items() if (left := num - new.get(label, 0))}

    def to_line(self) -> dict[str, Any]:
        """A ledger line; fields at their default are left out."""
        values = ((name, getattr(self, name), default) for name, default in DEFAULTS.items())
        told = {name: value for name, value, default in values if name in REQUIRED or value != default}
        return {"kind": "shard", **told}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> "Shard":
        """The inverse of `to_line`."""
        values = {name: value for name, value in line.items() if name != "kind"}
        for name in LISTS & values.keys():
            values[name] = None if values[name] is None else tuple(values[name])
        if "bad" in values:
            values["bad"] = tuple((int(index), str(reason)) for index, reason in values["bad"])
        return cls(**values)


TOTALS = "label_totals"
NUM_HELD_OUT = "num_held_out"
COUNTS = (TOTALS, NUM_HELD_OUT)
"""What headers tell beside the extent: the label totals, and how many shards have examples held out."""
REQUIRED = {"key", "size", "sha256"}
LISTS = {"held_out", "keys", "new"}
DEFAULTS = asdict(Shard(key="", size=0, sha256=""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Old examples drawn from one shard: for each label, which of its old examples of that label, counted from 0.

    Ordinals, not indices: they can be drawn from the ledger's counts alone, without opening an old shard.
    `picks` None means all of them.
    """

    shard: Shard
    picks: Mapping[str, tuple[int, ...]] | None

    @property
    def num_examples(self) -> int:
        """How many were drawn."""
        return sum(self.labels().values())

    def labels(self) -> dict[str, int]:
        """How many were drawn of each label."""
        if self.picks is None:
            return self.shard.old_labels()
        return {label: len(ordinals) for label, ordinals in self.picks.items()}

    def to_line(self) -> dict[str, Any]:
        """A ledger line."""
        return {"kind": "replay", "shard": self.shard.to_line(), "picks": self.picks}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> "Replay":
        """The inverse of `to_line`."""
        picks = line["picks"]
        if picks is not None:
            picks = {label: tuple(ordinals) for label, ordinals in picks.items()}
        return cls(shard=Shard.from_line(line["shard"]), picks=picks)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round, fixed when it starts. `settings` are those of class "round"; `labels` the names it brought.

    `old_labels` counts the examples of each label that earlier rounds brought and that are still there.
    `starts_from` names what round 1 started from when that was the checkpoint of another run.
    """

    number: int
    settings: Mapping[str, Any]
    window_bytes: int
    labels: tuple[str, ...] = ()
    old_labels: Mapping[str, int] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    replay: tuple[Replay, ...] = ()
    starts_from: str = ""

    @property
    def num_new(self) -> int:
        """Examples that the round brings."""
        return sum(shard.num_new for shard in self.shards if shard.split == "train")

    @property
    def num_old(self) -> int:
        """Examples of earlier rounds that are trained along."""
        return sum(replay.num_examples for replay in self.replay)

    def labels_of_new(self) -> Counter[str]:
        """By label ("" for none) the examples that the round brings."""
        new = Counter[str]()
        for shard in self.shards:
            if shard.split == "train":
                new.update(shard.labels_of_new())
        return new

    def label_counts(self) -> dict[str, tuple[int, int]]:
        """By label ("" for none) the examples that a pass over the round trains, and all that there are, old and new.

        The second is the larger one where old examples were drawn.
        """
        new, drawn = self.labels_of_new(), Counter[str]()
        for replay in self.replay:
            drawn.update(replay.labels())
        trained, known = new + drawn, new + Counter(self.old_labels)
        return {name: (num, known[name]) for name, num in trained.items()}

    def _label_totals(self) -> dict[str, int] | None:
        """Usable examples of each label in its training shards; None where edited ones would count twice."""
        train = [shard for shard in self.shards if shard.split == "train"]
        return None if any(shard.new is not None for shard in train) else total_labels(train)

    def to_lines(self) -> Iterator[dict[str, Any]]:
        """The ledger file of the round."""
        yield {
            "kind": "round",
            "format": 1,
            "round": self.number,
            "settings": dict(self.settings),
            "window_bytes": self.window_bytes,
            "labels": list(self.labels),
            **({"old_labels": dict(self.old_labels)} if self.old_labels else {}),
            "removed": list(self.removed),
            "num_new": self.num_new,
            "num_old": self.num_old,
            **vars(Extent.of(self.shards)),
            TOTALS: self._label_totals(),
            NUM_HELD_OUT: sum(bool(shard.held_out) for shard in self.shards),
            **({"starts_from": self.starts_from} if self.starts_from else {}),
        }
        yield from (shard.to_line() for shard in sorted(self.shards, key=lambda shard: shard.sort_key))
        yield from (replay.to_line() for replay in sorted(self.replay, key=lambda replay: replay.shard.sort_key))


@dataclass(frozen=True)
class Ledger:
    """The rounds of a folder, oldest first, each as a function that reads its lines: they are streamed, not kept."""

    files: tuple[Lines, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def with_round(self, lines: Lines) -> "Ledger":
        """The ledger with one more round."""
        return Ledger((*self.files, lines))

    def header(self, number: int) -> dict[str, Any]:
        """The first line of round `number` (from 1)."""
        header = next(self.files[number - 1](), {})
        if header.get("kind") != "round" or header.get("round") != number:
            raise CheckpointError(f"ledger of round {number}: it begins with {header.get('kind')!r}, not its header")
        return header

    def heading(self, number: int) -> Heading:
        """What the header of a round says of its length."""
        header = self.header(number)
        return Heading(
            **{name: header[name] for name in HEADING}, starts_from=header.get("starts_from", ""), number=number
        )

    def round(self, number: int) -> Round:
        """All of round `number`."""
        header = self.header(number)
        return Round(
            number=number,
            settings=header["settings"],
            window_bytes=header["window_bytes"],
            labels=tuple(header["labels"]),
            old_labels=header.get("old_labels", {}),
            removed=tuple(header["removed"]),
            starts_from=header.get("starts_from", ""),
            shards=tuple(self.shards(number)),
            replay=tuple(Replay.from_line(line) for line in self.files[number - 1]() if line["kind"] == "replay"),
        )

    def known(self) -> Iterator[Shard]:
        """The newest state of every shard ever trained or evaluated, sorted by key, in constant memory."""
        if len(self) == 1:
            yield from self.shards(1)
            return
        by_round = [self._tagged(number) for number in range(1, len(self) + 1)]
        merged = heapq.merge(*by_round, key=lambda pair: (pair[1].sort_key, pair[0]))
        for _, same_key in groupby(merged, key=lambda pair: pair[1].key):
            *_, (_, newest) = same_key
            yield newest

    def extent(self) -> Extent:
        """That of all rounds together; read from the headers, but for ledger files that are older than it."""
        found = [self.extent_of(number) for number in range(1, len(self) + 1)]
        return Extent(
            num_train=sum(one.num_train for one in found),
            num_untrained=sum(one.num_untrained for one in found),
            last_key=max((one.last_key for one in found), key=str.encode, default=""),
        )

    def extent_of(self, number: int) -> Extent:
        """That of one round."""
        header = self.header(number)
        if not header.keys() >= set(EXTENT):
            return Extent.of(self.shards(number))
        return Extent(**{name: header[name] for name in EXTENT})

    def rounds_of_labels(self) -> dict[str, int]:
        """For each label the round that brought it."""
        return {label: number for number in range(1, len(self) + 1) for label in self.header(number)["labels"]}

    def label_totals(self) -> dict[str, int] | None:
        """Usable examples of each label in all training shards, by the headers; None where these do not tell."""
        found = [self.header(number).get(TOTALS) for number in range(1, len(self) + 1)]
        if None in found or self.removed():
            return None
        return dict(sum(map(Counter, found), Counter[str]()))

    def removed(self) -> frozenset[str]:
        """Keys of shards that were found removed when a round started."""
        return frozenset(key for number in range(1, len(self) + 1) for key in self.header(number)["removed"])

    def evaluation(self) -> list[tuple[int, Shard]]:
        """What is evaluated, by key: evaluation shards and those with examples held out.

        Each with the round that first saw it; a removed one is out, an edited one is there as it is now.
        """
        first_seen: dict[str, int] = {}
        found: dict[str, tuple[int, Shard]] = {}
        for number in range(1, len(self) + 1):
            if not (found or self._has_evaluation(number)):
                continue
            for line in self._lines(number):  # most are of no interest here: they do not become shards
                if line.get("split") == "eval" or line.get("held_out"):
                    found[line["key"]] = (first_seen.setdefault(line["key"], number), Shard.from_line(line))
                else:  # edited, and nothing of it is held out any longer
                    found.pop(line["key"], None)
        removed = self.removed()
        return [found[key] for key in sorted(found, key=str.encode) if key not in removed]

    def _has_evaluation(self, number: int) -> bool:
        """Whether there may be something to evaluate in a round, by its header: older ones do not tell."""
        header = self.header(number)
        return bool(header.get("num_untrained", 1) or header.get(NUM_HELD_OUT, 1))

    def shards(self, number: int) -> Iterator[Shard]:
        """The shards of a round, one by one."""
        return map(Shard.from_line, self._lines(number))

    def _lines(self, number: int) -> Iterator[dict[str, Any]]:
        return (line for line in self.files[number - 1]() if line["kind"] == "shard")

    def _tagged(self, number: int) -> Iterator[tuple[int, Shard]]:
        return ((number, shard) for shard in self.shards(number))


def without_new(shard: Shard) -> Shard:
    """An edited shard seen by a later round: all of its usable examples are old."""
    return shard if shard.new is None and shard.new_labels is None else replace(shard, new=None, new_labels=None)


def total_labels(shards: Iterable[Shard]) -> dict[str, int]:
    """Usable examples per label over shards."""
    totals: dict[str, int] = {}
    for shard in shards:
        for label, num in shard.labels.items():
            totals[label] = totals.get(label, 0) + num
    return totals
