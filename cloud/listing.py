"""Listings put in the order of their keys' UTF-8 bytes, whatever order a server has, in bounded memory."""

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import IO

from cloud.store import Entry
from cloud.threads import in_background

RUN_ENTRIES = 50_000
"""As many entries are held in memory; more are sorted through temporary files."""


def key_order(key: str) -> bytes:
    """What keys are sorted by."""
    return key.encode("utf-8", "surrogateescape")


def in_key_order(entries: Iterable[Entry], run_entries: int = RUN_ENTRIES) -> Iterator[Entry]:
    """The entries sorted by key, each key once. Nothing comes out before all have come in."""
    incoming = iter(entries)
    run = _next_run(incoming, run_entries)
    if len(run) < run_entries:
        yield from _once(run)
        return
    spilled = [_spill(run)]
    while run := _next_run(incoming, run_entries):
        spilled.append(_spill(run))
    yield from _once(heapq.merge(*map(_unspill, spilled), key=lambda entry: key_order(entry.key)))


def folders_out_of_place(start_after: str) -> list[str]:
    """Folders that a server may list before `start_after` or skip, though their keys sort after it.

    Some servers (SeaweedFS, hierarchical Azure accounts) list the folder `a/` where a file `a` would be, so
    before `a-1`. Only folders whose name is a beginning of `start_after` can be affected: `a/` for `a-1` and `a`.
    """
    if not start_after:
        return []
    cuts = (i for i, char in enumerate(start_after + " ") if char < "/" and not start_after[:i].endswith("/"))
    return [start_after[:i] + "/" for i in cuts if i > 0]


def all_begun(listings: Sequence[Iterator[Entry]]) -> Iterator[Entry]:
    """Listings one after another; the first pages of all are asked for at once."""
    firsts = [in_background(partial(next, listing, None), "listing") for listing in listings[1:]]
    if listings:
        yield from listings[0]
    for first, listing in zip(firsts, listings[1:], strict=True):
        entry = first.result()
        if entry is not None:
            yield entry
            yield from listing


def _next_run(incoming: Iterator[Entry], run_entries: int) -> list[Entry]:
    return sorted(islice(incoming, run_entries), key=lambda entry: key_order(entry.key))


def _once(entries: Iterable[Entry]) -> Iterator[Entry]:
    last = None
    for entry in entries:
        if entry.key != last:
            yield entry
        last = entry.key


def _spill(run: list[Entry]) -> IO[str]:
    file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - closed when it has been read
    for entry in run:
        file.write(json.dumps((entry.key, entry.size, entry.version)) + "\n")
    file.seek(0)
    return file


def _unspill(file: IO[str]) -> Iterator[Entry]:
    with file:
        for line in file:
            yield Entry(*json.loads(line))
