"""Shards as local files: the right bytes, never more of them than allowed, whatever fails in the background."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from cloud.cache import NUM_THREADS, ShardCache, Wanted
from cloud.errors import CacheTooSmall, Damaged, Gone, NoSuchBucket, StoreFull, Unreachable
from cloud.open import open_store
from cloud.store import Store
from tests.cloud.places import ReadsThrough, new_memory_store
from tests.cloud.wrappers import Failing, Wrapped

SIZE = 1000


def content(key: str, size: int = SIZE) -> bytes:
    return Random(key).randbytes(size)


def put(store: Store, key: str, size: int = SIZE) -> Wanted:
    data = content(key, size)
    store.put(key, data)
    return Wanted(key, size, hashlib.sha256(data).hexdigest())


@contextmanager
def caching(
    store: Store, tmp_path: Path, num_bytes: int, check: Callable[[], None] = lambda: None
) -> Iterator[ShardCache]:
    cache = ShardCache(store, tmp_path / "cache", num_bytes, check=check)
    try:
        yield cache
    finally:
        cache.close()


def files(tmp_path: Path) -> set[str]:
    """The digests of what is there."""
    return {file.name[:64] for file in (tmp_path / "cache/0").iterdir()} - {"lock"}


def test_what_is_read_in_place_needs_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = open_store(str(tmp_path / "data"), writable=True)
    shard = put(store, "a")
    with caching(store, tmp_path, 3 * SIZE) as cache:
        cache.prefetch([shard])
        assert cache.acquire(shard) == (tmp_path / "data/a", shard.sha256)
        cache.release("a")
        assert not (tmp_path / "cache").exists()


def test_once_closed_no_folder_is_made(tmp_path: Path) -> None:
    store = new_memory_store()
    shard = put(store, "a")
    with caching(store, tmp_path, 3 * SIZE) as cache:
        cache.close()
        cache.prefetch([shard])
        with pytest.raises(ValueError, match="closed"):
            cache.acquire(shard)
    assert not (tmp_path / "cache").exists()


def digests(*shards: Wanted) -> set[str | None]:
    return {shard.sha256 for shard in shards}


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def test_a_shard_is_fetched_once_and_stays(tmp_path: Path) -> None:
    store = ReadsThrough(new_memory_store())
    shard = put(store, "a/b.tar")
    with caching(store, tmp_path, 10 * SIZE) as cache:
        for _ in range(3):
            path, digest = cache.acquire(shard)
            assert path.read_bytes() == content("a/b.tar")
            assert digest == shard.sha256
            cache.release(shard.key)
    assert store.keys == ["a/b.tar"]


def test_what_was_prefetched_is_there(tmp_path: Path) -> None:
    store = ReadsThrough(new_memory_store())
    shards = [put(store, f"{number}.tar") for number in range(8)]
    with caching(store, tmp_path, 10 * SIZE) as cache:
        cache.prefetch(shards)
        eventually(lambda: files(tmp_path) == digests(*shards))
        for shard in shards:
            assert cache.acquire(shard)[0].read_bytes() == content(shard.key)
    assert sorted(store.keys) == [shard.key for shard in shards]


def test_prefetching_goes_in_order_and_stops_where_the_space_ends(tmp_path: Path) -> None:
    go = threading.Event()
    store = ReadsThrough(new_memory_store(), lambda key, number: go.wait())
    shards = [put(store, f"{number}.tar") for number in range(9)]
    with caching(store, tmp_path, 6 * SIZE + 500) as cache:
        cache.prefetch(shards)
        eventually(lambda: len(store.keys) == NUM_THREADS)
        assert set(store.keys) == {shard.key for shard in shards[:NUM_THREADS]}
        go.set()
        eventually(lambda: files(tmp_path) == digests(*shards[:6]))
        time.sleep(0.05)
        assert len(store.keys) == 6
        cache.acquire(shards[0])
        cache.release(shards[0].key)
        eventually(lambda: files(tmp_path) == digests(*shards[1:7]))


def test_an_acquire_takes_the_space_of_what_is_needed_last(tmp_path: Path) -> None:
    store = new_memory_store()
    shards = [put(store, f"{number}.tar") for number in range(3)]
    urgent = put(store, "urgent.tar")
    with caching(store, tmp_path, 3 * SIZE) as cache:
        cache.prefetch(shards)
        eventually(lambda: files(tmp_path) == digests(*shards))
        cache.acquire(urgent)
        assert files(tmp_path) == digests(*shards[:2], urgent)


def test_an_acquire_takes_the_space_of_fetches_that_hang(tmp_path: Path) -> None:
    go = threading.Event()
    store = ReadsThrough(new_memory_store(), lambda key, number: key == "urgent.tar" or go.wait())
    shards = [put(store, f"{number}.tar") for number in range(3)]
    urgent = put(store, "urgent.tar")
    with caching(store, tmp_path, 3 * SIZE) as cache:
        cache.prefetch(shards)
        eventually(lambda: len(store.keys) == 3)
        started = time.monotonic()
        assert cache.acquire(urgent)[0].read_bytes() == content("urgent.tar")
        assert time.monotonic() - started < 5
        go.set()
        eventually(lambda: files(tmp_path) == digests(*shards[:2], urgent))
        cache.release("urgent.tar")
        eventually(lambda: files(tmp_path) == digests(*shards))


def test_an_acquire_waits_for_the_fetch_that_is_on_its_way(tmp_path: Path) -> None:
    store = ReadsThrough(new_memory_store(), lambda key, number: time.sleep(0.3))
    shard = put(store, "a.tar")
    with caching(store, tmp_path, SIZE) as cache:
        cache.prefetch([shard])
        eventually(lambda: store.num_now == 1)
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(cache.acquire, [shard] * 8))) == 1
    assert store.keys == ["a.tar"]


def test_what_is_acquired_stays_until_released_as_often(tmp_path: Path) -> None:
    store = new_memory_store()
    a, b = put(store, "a.tar"), put(store, "b.tar")
    with caching(store, tmp_path, 2 * SIZE - 1) as cache:
        path, _ = cache.acquire(a)
        cache.acquire(a)
        for _ in range(2):
            with pytest.raises(CacheTooSmall, match=r"^b\.tar in .*1000 bytes .* 999 of 1999 .*--cache_bytes$"):
                cache.acquire(b)
            assert path.read_bytes() == content("a.tar")
            cache.release("a.tar")
        cache.acquire(b)
        assert files(tmp_path) == digests(b)


def test_a_shard_larger_than_the_cache(tmp_path: Path) -> None:
    store = new_memory_store()
    shard = put(store, "a.tar", SIZE + 1)
    with caching(store, tmp_path, SIZE) as cache:
        cache.prefetch([shard])
        with pytest.raises(CacheTooSmall, match=r"a\.tar.*1001 bytes"):
            cache.acquire(shard)


def test_what_an_earlier_process_left_is_used_after_a_look(tmp_path: Path) -> None:
    store = ReadsThrough(new_memory_store())
    a, b, c = (put(store, f"{name}.tar") for name in "abc")
    with caching(store, tmp_path, 3 * SIZE) as cache:
        damaged, _ = cache.acquire(a)
        cut, _ = cache.acquire(b)
        cache.acquire(c)
    damaged.write_bytes(content("other"))
    cut.write_bytes(b"short")
    store.keys.clear()
    with caching(store, tmp_path, 3 * SIZE) as cache:
        cache.prefetch([c])
        for shard in (a, b, c):
            assert cache.acquire(shard)[0].read_bytes() == content(shard.key)
    assert sorted(store.keys) == ["a.tar", "b.tar"]


def test_leftovers_that_are_needed_are_not_driven_out(tmp_path: Path) -> None:
    store = ReadsThrough(new_memory_store())
    shards = [put(store, f"{number}.tar") for number in range(4)]
    with caching(store, tmp_path, 4 * SIZE) as cache:
        for shard in shards:
            cache.acquire(shard)
    new = put(store, "new.tar")
    store.keys.clear()
    with caching(store, tmp_path, 4 * SIZE) as cache:
        cache.prefetch([new, *shards[:3]])
        eventually(lambda: files(tmp_path) == digests(new, *shards[:3]))
    assert store.keys == ["new.tar"]


def test_a_file_deleted_behind_our_back_is_fetched_again(tmp_path: Path) -> None:
    store = new_memory_store()
    shard = put(store, "a.tar")
    with caching(store, tmp_path, SIZE) as cache:
        cache.acquire(shard)[0].unlink()
        cache.release("a.tar")
        assert cache.acquire(shard)[0].read_bytes() == content("a.tar")


class Flips(Wrapped):
    """The first `num_left` reads have a wrong byte."""

    num_left = 0

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        data = self.inner.read(key, start, end)
        if self.num_left:
            self.num_left -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        return data


def test_bytes_damaged_on_the_way_are_fetched_again(tmp_path: Path) -> None:
    store = Flips(new_memory_store())
    shard = put(store, "a.tar")
    with caching(store, tmp_path, SIZE) as cache:
        store.num_left = 1
        assert cache.acquire(shard)[0].read_bytes() == content("a.tar")


@pytest.mark.parametrize("ahead", [False, True])
def test_content_that_stays_wrong_is_named(tmp_path: Path, ahead: bool) -> None:
    store = ReadsThrough(new_memory_store())
    put(store, "a.tar")
    found, expected = hashlib.sha256(content("a.tar")).hexdigest(), "0" * 64
    with caching(store, tmp_path, SIZE) as cache:
        if ahead:
            cache.prefetch([Wanted("a.tar", SIZE, expected)])
            eventually(lambda: len(store.keys) == 2)
        with pytest.raises(Damaged, match=f"^a.tar in .*{found}, expected {expected}"):
            cache.acquire(Wanted("a.tar", SIZE, expected))
        assert files(tmp_path) == set()
        with pytest.raises(Damaged, match=r"^a\.tar in .* not the 999 bytes"):
            cache.acquire(Wanted("a.tar", SIZE - 1, found))
        with pytest.raises(FileNotFoundError):
            cache.acquire(Wanted("b.tar", SIZE, found))
        assert cache.acquire(Wanted("a.tar", SIZE, found))[1] == found


def test_an_error_in_the_background_is_that_of_acquire_and_tried_again_there(tmp_path: Path) -> None:
    inner = new_memory_store()
    shard, other = put(inner, "a.tar"), put(inner, "b.tar")
    store = Failing(inner, "read", lambda key: key == "a.tar", times=3)
    with caching(store, tmp_path, 2 * SIZE) as cache:
        cache.prefetch([shard, other])
        eventually(lambda: files(tmp_path) == digests(other))
        for _ in range(2):
            with pytest.raises(Unreachable, match=r"a\.tar"):
                cache.acquire(shard)
        assert cache.acquire(shard)[0].read_bytes() == content("a.tar")


class Stopped(Exception):
    pass


def test_a_stop_gets_through_and_the_cache_goes_on(tmp_path: Path) -> None:
    go, stop = threading.Event(), threading.Event()
    store = ReadsThrough(new_memory_store(), lambda key, number: go.wait())
    shard, ahead = put(store, "a.tar"), put(store, "b.tar")

    def check() -> None:
        if stop.is_set():
            raise Stopped

    with caching(store, tmp_path, 2 * SIZE, check) as cache:
        cache.prefetch([ahead])
        threading.Timer(0.2, stop.set).start()
        for wanted in (shard, ahead):
            with pytest.raises(Stopped):
                cache.acquire(wanted)
        go.set()
        stop.clear()
        for wanted in (shard, ahead):
            assert cache.acquire(wanted)[0].read_bytes() == content(wanted.key)


def test_close_does_not_wait_for_a_store_that_hangs(tmp_path: Path) -> None:
    go = threading.Event()
    store = ReadsThrough(new_memory_store(), lambda key, number: go.wait())
    shards = [put(store, f"{number}.tar") for number in range(5)]
    cache = ShardCache(store, tmp_path / "cache", 5 * SIZE)
    cache.prefetch(shards)
    eventually(lambda: len(store.keys) == NUM_THREADS)
    started = time.monotonic()
    cache.close()
    assert time.monotonic() - started < 3
    assert files(tmp_path) == set()
    go.set()
    with caching(store, tmp_path, 5 * SIZE) as again:
        assert again.acquire(shards[0])[0].parent == tmp_path / "cache/0"
    with pytest.raises(ValueError, match="closed"):
        cache.acquire(shards[0])


def test_objects_that_are_files_are_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = open_store(str(tmp_path / "data"), writable=True)
    shard = put(store, "a.tar")
    with caching(store, tmp_path, 1) as cache:
        cache.prefetch([shard])
        for wanted in (shard, Wanted("a.tar", SIZE, None)):
            assert cache.acquire(wanted) == (tmp_path / "data/a.tar", shard.sha256)
            cache.release("a.tar")
        for digest in (None, "0" * 64):
            with pytest.raises(Damaged, match=r"a\.tar"):
                cache.acquire(Wanted("a.tar", SIZE + 1, digest))
        with pytest.raises(FileNotFoundError):
            cache.acquire(Wanted("b.tar", SIZE, None))
        assert files(tmp_path) == set()
    assert (tmp_path / "data/a.tar").exists()


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_shard_that_goes_away_is_named_and_so_is_the_whole_place(tmp_path: Path, place: str) -> None:
    (tmp_path / "data").mkdir()
    local = open_store(str(tmp_path / "data"), writable=True)
    store = local if place == "local" else new_memory_store()
    shard, other = put(store, "a"), put(store, "b")
    with caching(store, tmp_path, 3 * SIZE) as cache:
        store.delete("a")
        with pytest.raises(Gone, match=r"a in .*: gone; restore it"), cache.file_of(shard):
            pass
        with pytest.raises(FileNotFoundError, match="another"), cache.file_of(other):
            raise FileNotFoundError("another file of the reader's own")
        if place == "local":
            with pytest.raises(NoSuchBucket), cache.file_of(other) as (path, _):
                (tmp_path / "data").rename(tmp_path / "away")
                path.read_bytes()


class Vanishing(Wrapped):
    """Objects that go away as soon as somebody knows where their file is."""

    def local_path(self, key: str) -> Path | None:
        path = self.inner.local_path(key)
        if path is not None:
            path.unlink()
        return path


@pytest.mark.parametrize("is_known", [True, False])
def test_a_shard_that_goes_away_before_it_is_looked_at_is_gone(tmp_path: Path, is_known: bool) -> None:
    (tmp_path / "data").mkdir()
    store = open_store(str(tmp_path / "data"), writable=True)
    shard = put(store, "a")
    wanted = shard if is_known else Wanted("a", SIZE, None)
    with caching(Vanishing(store), tmp_path, 3 * SIZE) as cache, pytest.raises(Gone), cache.file_of(wanted):
        pass


def test_content_not_known_yet_is_found_out_once(tmp_path: Path) -> None:
    store = ReadsThrough(new_memory_store())
    shard = put(store, "a.tar")
    unknown = Wanted("a.tar", SIZE, None)
    with caching(store, tmp_path, 3 * SIZE) as cache:
        cache.prefetch([unknown])
        eventually(lambda: files(tmp_path) == digests(shard))
        assert {cache.acquire(wanted) for wanted in (unknown, shard, unknown)} == {
            (tmp_path / "cache/0" / f"{shard.sha256}.tar", shard.sha256)
        }
    assert store.keys == ["a.tar"]


def test_keys_never_become_names(tmp_path: Path) -> None:
    inner = new_memory_store()
    shard = put(inner, "a.tar")

    class AnyName(Wrapped):
        def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
            return self.inner.read("a.tar", start, end)

    with caching(AnyName(inner), tmp_path, 3 * SIZE) as cache:
        for key in ("../../x", "/etc/passwd", "a\x00b", "lock", "x" * 5000, "0" * 64):
            for digest in (None, shard.sha256):
                assert cache.acquire(Wanted(key, SIZE, digest))[0] == tmp_path / "cache/0" / str(shard.sha256)
        assert files(tmp_path) == digests(shard)
        with pytest.raises(Damaged):
            cache.acquire(Wanted("a.tar", SIZE, "../../x"))
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


def test_a_disk_that_is_full_before_the_limit(tiny_disk: Path) -> None:
    store = new_memory_store()
    small, large = put(store, "small.tar"), put(store, "large.tar", 5 * 2**20)
    cache = ShardCache(store, tiny_disk, 2**30)
    with pytest.raises(StoreFull, match=f"^{tiny_disk}/0/"):
        cache.acquire(large)
    assert cache.acquire(small)[0].read_bytes() == content("small.tar")
    cache.close()


def test_many_readers_never_exceed_the_limit_nor_get_wrong_bytes(tmp_path: Path) -> None:
    limit, random = 20_000, Random(5)
    store = ReadsThrough(new_memory_store(), lambda key, number: time.sleep(0.0005 * (number % 7)))
    shards = [put(store, f"{number}.tar", random.randrange(0, 4_001)) for number in range(30)]
    most, done = 0, threading.Event()

    def measure() -> None:
        nonlocal most
        while not done.is_set():
            sizes = []
            for path in (tmp_path / "cache/0").iterdir():
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    sizes.append(0)
            most = max(most, sum(sizes))

    def read(seed: int) -> None:
        mine = Random(seed)
        for _ in range(60):
            if seed == 0:
                cache.prefetch(mine.sample(shards, 10))
            shard = mine.choice(shards)
            if mine.random() < 0.3:
                shard = Wanted(shard.key, shard.size, None)
            path, digest = cache.acquire(shard)
            data = path.read_bytes()
            assert data == content(shard.key, shard.size)
            assert digest == hashlib.sha256(data).hexdigest()
            cache.release(shard.key)

    with caching(store, tmp_path, limit) as cache:
        cache.prefetch(shards)  # makes the folder that is watched
        watcher = threading.Thread(target=measure)
        watcher.start()
        with ThreadPoolExecutor(4) as pool:
            for result in [pool.submit(read, seed) for seed in range(4)]:
                result.result()
        done.set()
        watcher.join()
    assert limit // 2 < most <= limit
    assert all(name in digests(*shards) for name in files(tmp_path))


@pytest.mark.parametrize(
    ("key", "ending"),
    [("a/b.tar", ".tar"), ("x.csv.gz", ".csv.gz"), ("none", ""), ("odd.T!R", ""), (".hid.tar.zst", ".tar.zst")],
)
def test_a_fetched_file_ends_as_its_key_does_because_readers_go_by_that(tmp_path: Path, key: str, ending: str) -> None:
    store = new_memory_store()
    wanted = put(store, key)
    for _ in range(2):  # fetched, then found as a leftover
        with caching(store, tmp_path, 10 * SIZE) as cache:
            path, digest = cache.acquire(wanted)
            assert path.name == digest + ending
            assert path.read_bytes() == content(key)
