"""How little is read: an index, a small cache, one request for what is new; and from wherever shards lie."""

import os

import pytest

from cloud.open import open_store
from cloud.store import Store
from entrypoint.__main__ import main
from tests.e2e.noted import ARGUMENTS, FIRST, SECOND, Bench, Noted, Notes, content, ids


def index(bench: Bench, data: object) -> int:
    """The index by a machine that shares no cache with the job."""
    Noted.notes = Notes()
    return main(["index", "--data_url", str(data), "--cache_dir", f"{bench.inside.run}-cache", *ARGUMENTS])


def test_an_index_spares_the_census(bench, tmp_path):
    bench.write("0.jsonl", FIRST)
    bench.write("eval/0.jsonl", ids("a", 90, 95))
    bench.submit("--epochs", "1", run=tmp_path / "without")
    assert index(bench, bench.inside.data) == 0
    one = bench.submit("--epochs", "1")
    assert not one.notes.keys
    bench.write("1.jsonl", SECOND)
    two = bench.submit("--epochs", "1")
    assert set(two.notes.keys) == set(SECOND)
    with_index, without = bench.ledger(1), bench.ledger(1, tmp_path / "without")
    assert with_index == without


@pytest.mark.parametrize("place", ["local", "memory"])
def test_an_index_that_is_out_of_date_is_found_out(bench, place):
    data = bench.inside.data if place == "local" else f"memory://index-{os.getpid()}/data"
    store = open_store(str(data), writable=True)
    store.put("0.jsonl", content(FIRST))
    assert index(bench, data) == 0
    size = len(content([FIRST[-1]]))
    other = next(name for name in ids("c", 50, 99) if len(content([name])) == size)
    store.put("0.jsonl", content([*FIRST[:-1], other]))
    refused = bench.submit("--epochs", "1", code=65, data=data).said
    assert "0.jsonl" in refused.error and "perdure index" in refused.error
    assert index(bench, data) == 0
    assert bench.submit("--epochs", "1", data=data).said.outcome["outcome"] == "done"


def memory(bench: Bench, name: str) -> tuple[str, Store]:
    """A place that is no folder, and lasts as long as the process."""
    url = f"memory://{name}-{os.getpid()}-{bench.inside.run.parent.name}/data"
    return url, open_store(url, writable=True)


def test_data_copied_to_other_versions_is_compared_within_a_small_cache(bench):
    url, data = memory(bench, "copied")
    shards = {f"{number}.jsonl": content(ids("ab"[number % 2], 9 * number, 9 * number + 9)) for number in range(8)}
    for name, lines in shards.items():
        data.put(name, lines)
    cache = ("--cache_bytes", 2 * max(map(len, shards.values())), "--epochs", "1")
    bench.submit(*cache, data=url)
    for name, lines in shards.items():
        data.put(name, lines)
    assert bench.submit(*cache, data=url).said.outcome["outcome"] == "nothing_new"


def test_a_cache_that_may_turn_out_too_small_is_refused_at_once(bench):
    url, data = memory(bench, "large")
    data.put("0.jsonl", content(FIRST))
    size = len(content(FIRST))
    refused = bench.submit("--cache_bytes", 2 * size - 1, data=url, code=78)
    assert refused.said.error == (
        f"0.jsonl: {size:,} bytes, more than half of --cache_bytes {2 * size - 1:,}; raise it to {2 * size:,} or more"
    )
    bench.write("0.jsonl", FIRST)
    bench.submit("--cache_bytes", "1", "--epochs", "1")  # a folder is read in place
