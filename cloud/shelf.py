"""What a cache holds, fetches and is asked for, and which of it gets the space."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

from cloud.slot import Content, Slot, content_name

NOW = -1.0
"""The place of what an `acquire` waits for: before everything that is fetched ahead."""


@dataclass(frozen=True)
class Wanted:
    """One shard; `sha256` is None where its content is yet to be found out."""

    key: str
    size: int
    sha256: str | None


@dataclass(eq=False)
class Job:
    """A shard that is being fetched, or verified where an earlier process left it, into space reserved for it.

    `place` is its place in the queue, infinite when nobody asks for it any more.
    """

    wanted: Wanted
    name: str
    path: Path
    place: float
    is_leftover: bool
    cancelled: bool = False


class Shelf:
    """The contents of a slot, the jobs that bring more, and the queue of what is wanted ahead.

    Not for several threads at once: its owner locks.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self._ahead: dict[str, tuple[int, Wanted]] = {}  # by key: place in the queue, until acquired
        self._queue: list[tuple[int, str]] = []  # heap of place and key: what of it may have to be fetched
        self._jobs: dict[str, Job] = {}
        self._digests: dict[Wanted, str] = {}

    def want_ahead(self, shards: Sequence[Wanted]) -> None:
        """Replace the queue."""
        self._ahead = {shard.key: (place, shard) for place, shard in reversed([*enumerate(shards)])}
        self._queue = sorted((place, key) for key, (place, _) in self._ahead.items())
        for shard in shards:
            content = self.slot.contents.get(self._name(shard))
            if content is not None:
                content.key = shard.key
        for job in self._jobs.values():
            job.place = job.place if job.place == NOW else self._place(job.wanted.key)

    def take_ahead(self, key: str) -> None:
        """It is acquired: no longer wanted ahead."""
        self._ahead.pop(key, None)

    def ready(self, shard: Wanted) -> Content | None:
        """Its content, if it is there and verified."""
        content = self.slot.contents.get(self._name(shard))
        if content is None or not content.verified or content.size != shard.size or not content.path.exists():
            return None
        content.key = shard.key
        self.slot.contents.move_to_end(content.name)
        return content

    def job(self, shard: Wanted) -> Job | None:
        """Who is bringing it."""
        return self._jobs.get(self._name(shard))

    def begin(self, shard: Wanted, place: float) -> Job | None:
        """Reserve space, evicting what is needed after `place`; None when there is not enough."""
        name = self._name(shard)
        leftover = self.slot.contents.get(name)
        is_leftover = leftover is not None and leftover.size == shard.size and not leftover.num_pins
        if leftover is not None and is_leftover:
            path = self.slot.reopen(leftover)
        elif self._make_room(shard.size, place):
            path = self.slot.reserve(shard.size)
        else:
            return None
        self._jobs[name] = Job(shard, name, path, place, is_leftover)
        return self._jobs[name]

    def begin_ahead(self) -> Job | None:
        """The job of the first shard in the queue that is not there; None when there is none, or no space for it."""
        while self._queue:
            place, key = self._queue[0]
            shard = self._ahead[key][1] if key in self._ahead else None
            if shard is not None and self._must_come(shard):
                job = self.begin(shard, place)
                if job is not None:
                    heappop(self._queue)
                return job
            heappop(self._queue)
        return None

    def finish(self, job: Job, digest: str) -> Content:
        """The job's file is whole: the content, pinned."""
        content = self.slot.keep(job.path, job.wanted.size, content_name(digest, job.wanted.key))
        content.num_pins += 1
        content.key = job.wanted.key
        if job.wanted.sha256 is None:
            self._digests[job.wanted] = digest
        del self._jobs[job.name]
        return content

    def give_up(self, job: Job) -> None:
        """Nothing came of it: free its space. A cancelled one comes again in its turn."""
        del self._jobs[job.name]
        if job.cancelled:
            self._queue_again(job.wanted.key)
        self.slot.give_back(job.path, job.wanted.size)

    def cancel_for(self, size: int) -> int:
        """Cancel jobs that fetch ahead, the last needed first, as far as `size` bytes need their space.

        Returns how many bytes there will be: fewer than `size` when even all of them are not enough.
        """
        num_bytes = self.slot.free_bytes + sum(content.size for content in self._victims(NOW))
        for job in sorted(self._jobs.values(), key=lambda job: job.place, reverse=True):
            if job.place > NOW and num_bytes < size:
                job.cancelled = True
                num_bytes += job.wanted.size
        return num_bytes

    def _name(self, shard: Wanted) -> str:
        """What tells its content from others: the digest, as soon as it is known."""
        digest = shard.sha256 or self._digests.get(shard)
        return content_name(digest, shard.key) if digest else f"key {shard.key}"

    def _must_come(self, shard: Wanted) -> bool:
        return shard.size <= self.slot.limit_bytes and self.job(shard) is None and self.ready(shard) is None

    def _place(self, key: str) -> float:
        return self._ahead[key][0] if key in self._ahead else math.inf

    def _queue_again(self, key: str) -> None:
        if key in self._ahead:
            heappush(self._queue, (self._ahead[key][0], key))

    def _make_room(self, size: int, place: float) -> bool:
        if self.slot.free_bytes >= size:  # mostly so; looking for victims among a million contents takes a second
            return True
        victims = self._victims(place)
        if self.slot.free_bytes + sum(content.size for content in victims) < size:
            return False
        for content in victims:
            if self.slot.free_bytes >= size:
                break
            self.slot.evict(content)
            self._digests.pop(Wanted(content.key, content.size, None), None)
            self._queue_again(content.key)
        return True

    def _victims(self, place: float) -> list[Content]:
        """What may go for something needed at `place`: what is never needed first, then what is needed last."""
        idle = (content for content in self.slot.contents.values() if not content.num_pins)
        later = [content for content in idle if self._place(content.key) > place]
        return sorted(later, key=lambda content: self._place(content.key), reverse=True)
