"""How little is read: an index, a small cache, one request for what is new; and from wherever shards lie."""

import bz2
import gzip
import lzma
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zstandard

from cloud.open import open_store
from cloud.store import Store
from entrypoint.__main__ import main
from tests.e2e.inside import IMAGES, write_digits
from tests.e2e.noted import ARGUMENTS, FIRST, SECOND, Bench, Noted, Notes, content, ids
from tests.e2e.submit import assert_same_training
from tests.relay import Relay, relaying
from tests.servers import S3Server


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


def test_an_index_of_a_wrong_folder_makes_none(bench, tmp_path):
    wrong = tmp_path / "wrong"
    assert index(bench, wrong) == 78
    assert f"{wrong}: no such folder; create it or mend the path" in bench.inside.capfd.readouterr().err
    assert not wrong.exists()


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


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress
}  # fmt: skip


@pytest.mark.parametrize("place", ["local", "memory"])
def test_compressed_shards(bench, place):
    folder = str(bench.inside.data)
    url, data = memory(bench, "zipped") if place == "memory" else (folder, open_store(folder, writable=True))
    for number, (suffix, compress) in enumerate(COMPRESS.items()):
        data.put(f"{number}.jsonl{suffix}", compress(nine(number)))
    one = bench.submit("--epochs", "2", data=url)
    assert one.labels(one.trained) == {"a": 36, "b": 36}
    tar = write_digits(bench.inside.data.with_name("images.tar"), 0, 20)
    data.put("images.tar.gz", gzip.compress(tar.read_bytes()))
    bench.inside.arguments = IMAGES
    images = bench.submit(data=url, run=bench.inside.run.with_name("images"))
    assert "data        1 new shard: 20 examples" in images.said.out


def nine(number: int) -> bytes:
    """The shard of this number: nine examples of one label."""
    return content(ids("ab"[number % 2], 9 * number, 9 * number + 9))


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """The size of a folder, again and again while the block runs."""
    sizes, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.0005):
            sizes.append(size_of(folder))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield sizes
    finally:
        over.set()
        thread.join()


def size_of(folder: Path) -> int:
    """Bytes of all files in it; one that goes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def test_fetched_shards_never_take_more_of_the_disk_than_they_may(bench, tmp_path):
    url, data = memory(bench, "windows")
    for number in range(12):
        data.put(f"{number:02}.jsonl", nine(number))
        (bench.inside.data / f"{number:02}.jsonl").write_bytes(nine(number))
    limit = 4 * max(len(nine(number)) for number in range(12))
    cache = ("--cache_bytes", limit, "--memory_bytes", "0", "--epochs", "4")
    with watched(tmp_path / "cache") as sizes:
        far = bench.submit(*cache, "--cache_dir", tmp_path / "cache", data=url)
    assert far.trained == dict.fromkeys(far.trained, 4)
    assert limit // 2 < max(sizes) <= limit
    near = bench.submit(*cache, run=bench.inside.run.with_name("near"))  # in the windows that the setting gives
    assert near.trained == far.trained
    assert_same_training(bench.store(), bench.store(bench.inside.run.with_name("near")))


def test_data_and_output_may_lie_in_different_kinds_of_places(bench):
    url, data = memory(bench, "far")
    run = url.replace("/data", "/run")
    for name, members in (("0.jsonl", FIRST), ("1.jsonl", SECOND)):
        data.put(name, content(members))
        bench.write(name, members)
        for stop_at, code in ((3, 143), (0, 0)):
            bench.submit("--epochs", "2", "--old_data", "all", data=url, code=code, stop_at=stop_at)
            bench.submit("--epochs", "2", "--old_data", "all", run=run, code=code, stop_at=stop_at)
    assert_same_training(bench.store(), bench.store(run))
    assert bench.metrics(4)[-1]["round"] == bench.metrics(4, run)[-1]["round"] == 2


def test_new_shards_whose_names_come_last_are_found_with_one_request(bench, s3_server: S3Server, monkeypatch):
    with relaying(Relay(s3_server.endpoint_url)) as relay:
        for name, value in {**s3_server.env, "AWS_ENDPOINT_URL": relay.url}.items():
            monkeypatch.setenv(name, value)
        url = f"{s3_server.make_bucket('growing')}/data"
        data = open_store(url, writable=True)
        for number in range(4):
            data.put(f"{number}.jsonl", nine(number))
        settings = ("--epochs", "1", "--shard_keys_grow", "--old_data", "all")
        bench.submit(*settings, data=url)
        data.put("4.jsonl", content(SECOND))
        relay.requests.clear()
        second = bench.submit(*settings, data=url)
    assert set(SECOND) < set(second.trained)
    assert second.said.outcome["appended_shards"] == ["4.jsonl"]
    assert "data        4 shards as before, 1 new shard: 8 examples, new label 'c'" in second.said.out
    listings = [request.path.partition("list-type=2&")[2] for request in relay.requests if "list-type" in request.path]
    assert listings.count("prefix=data%2F&start-after=data%2F3.jsonl") == 1, "for the round"
    assert listings.count("prefix=data%2F&start-after=data%2F4.jsonl") == 1, "and after it"
    assert "prefix=data%2F" not in listings, "never all of them"
    assert not any("eval" in listing for listing in listings), "those would come after 4.jsonl"


@pytest.mark.parametrize("name", ["{}.jsonl", "x{}.jsonl"])
def test_evaluation_shards_are_found_before_and_after_the_last_name(bench, name):
    settings = ("--epochs", "1", "--shard_keys_grow")
    bench.write(name.format(0), FIRST)
    bench.submit(*settings)
    bench.write("eval/0.jsonl", FIRST)
    bench.write(name.format(1), SECOND)
    assert set(bench.submit(*settings).said.outcome["appended_shards"]) == {"eval/0.jsonl", name.format(1)}
    bench.write("eval/0.jsonl", SECOND)
    assert bench.submit(*settings).said.outcome["changed_shards"] == ["eval/0.jsonl"]
    (bench.inside.data / "eval/0.jsonl").unlink()
    assert bench.submit(*settings).said.outcome["removed_shards"] == ["eval/0.jsonl"]
