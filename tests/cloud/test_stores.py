"""What every store promises, asked of each: a folder, memory, real S3 and Azure servers, and OBS's dialect of S3."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.errors import UrlError
from cloud.objects import PART_BYTES
from cloud.open import StoreOptions, open_store
from cloud.records import FileDigest
from cloud.store import Store, Writer
from cloud.transfer import no_check, upload
from cloud.verifying import whole_file
from tests.servers import AzureServer, S3Server
from trainer.checkpoint import write

Open = Callable[[str], Store]
_NUMBERS = itertools.count()


@pytest.fixture(params=["local", "memory", "s3", "obs", "az"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A function that opens a folder, by its name, in one place that is new for the test."""
    name = f"place-{next(_NUMBERS)}"
    if request.param == "local":
        return lambda folder: open_store(str(tmp_path / folder), writable=True)
    if request.param == "memory":
        return lambda folder: open_store(f"memory://{tmp_path.name}-{name}/{folder}", writable=True)
    if request.param == "az":
        return _azure(request.getfixturevalue("azure_server"), name, monkeypatch)
    return _s3(request.param, request.getfixturevalue("s3_server"), name, monkeypatch)


def _s3(scheme: str, server: S3Server, name: str, monkeypatch: pytest.MonkeyPatch) -> Open:
    for variable, value in server.env.items():
        monkeypatch.setenv(variable, value)
    endpoint = server.endpoint_url
    if scheme == "obs":
        endpoint = server.virtual_endpoint_url
        for variable in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(variable, server.endpoint_url)
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(variable, "")
    server.make_bucket_once("stores")
    options = StoreOptions(endpoint_url=endpoint, region="us-east-1")
    return lambda folder: open_store(f"{scheme}://stores/{scheme}/{name}/{folder}", options, writable=True)


def _azure(server: AzureServer, name: str, monkeypatch: pytest.MonkeyPatch) -> Open:
    for variable, value in server.env.items():
        monkeypatch.setenv(variable, value)
    server.make_container_once("stores")
    options = StoreOptions(endpoint_url=server.endpoint_url)
    return lambda folder: open_store(f"az://stores/{name}/{folder}", options, writable=True)


@pytest.fixture
def store(opened: Open) -> Store:
    return opened("folder")


def keys(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix, start_after)]


def pattern(size: int) -> bytes:
    """Bytes that differ from place to place."""
    return (b"0123456789abcdefghijklmnopqrstuvwxyz-" * (size // 37 + 1))[:size]


def test_a_put_is_read_back_listed_and_overwritten(store: Store) -> None:
    store.put("a/b.txt", b"one")
    first = store.stat("a/b.txt")
    assert (first.key, first.size, store.read("a/b.txt")) == ("a/b.txt", 3, b"one")
    assert list(store.list()) == [first]
    store.put("a/b.txt", b"other")
    assert store.read("a/b.txt") == b"other"
    assert store.stat("a/b.txt").version != first.version


def test_an_empty_place_lists_nothing_and_its_objects_are_missing(store: Store) -> None:
    assert keys(store) == []
    for ask in (store.read, store.stat):
        with pytest.raises(FileNotFoundError, match=r"no/such"):
            ask("no/such")
    assert store.local_path("no/such") is None


def test_an_empty_object_is_one(store: Store) -> None:
    store.put("empty", b"")
    assert (store.stat("empty").size, store.read("empty"), store.read("empty", 0, 9)) == (0, b"", b"")


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, b"0123456789"), (3, None, b"3456789"), (3, 5, b"34"), (3, 3, b""), (8, 99, b"89"),
        (10, None, b""), (10, 20, b""), (77, None, b""), (77, 99, b""),
    ],
)  # fmt: skip
def test_ranges(store: Store, start: int, end: int | None, expected: bytes) -> None:
    store.put("ten", b"0123456789")
    assert store.read("ten", start, end) == expected


def test_a_range_of_a_missing_object_is_missing(store: Store) -> None:
    for start, end in ((0, 0), (5, 9), (5, None)):
        with pytest.raises(FileNotFoundError):
            store.read("missing", start, end)


@pytest.mark.parametrize("size", [0, 1, 5, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 20 * 10**6])
def test_a_written_stream_is_read_back_though_the_caller_reuses_its_buffer(store: Store, size: int) -> None:
    content = pattern(size)
    with store.writer("stream") as writer:
        for begin in range(0, size, 3 * 10**6):
            buffer = bytearray(content[begin : begin + 3 * 10**6])
            assert writer.write(memoryview(buffer)) == len(buffer)  # type: ignore[arg-type]
            buffer[:] = bytes(len(buffer))
    assert store.stat("stream").size == size
    assert store.read("stream") == content


def test_a_stream_appears_only_when_the_block_ends(store: Store) -> None:
    store.put("stream", b"old")
    with store.writer("stream") as writer:
        writer.write(pattern(PART_BYTES + 5))
        assert store.read("stream") == b"old"
    assert store.stat("stream").size == PART_BYTES + 5
    assert keys(store) == ["stream"]


@pytest.mark.parametrize("size", [0, 10, PART_BYTES + 10])
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, FileNotFoundError])
def test_a_writer_left_by_an_exception_leaves_nothing(store: Store, size: int, error: type[BaseException]) -> None:
    store.put("kept", b"old")
    for key in ("kept", "new"):
        with pytest.raises(error, match="on purpose"), store.writer(key) as writer:
            writer.write(pattern(size))
            raise error("on purpose")
    assert keys(store) == ["kept"]
    assert store.read("kept") == b"old"


def test_create_refuses_a_key_that_is_taken_where_the_store_says_so(store: Store) -> None:
    store.create("claim", b"first")
    assert store.read("claim") == b"first"
    if not store.can_create:
        store.create("claim", b"second")
        assert store.read("claim") == b"second"
        return
    with pytest.raises(FileExistsError, match="claim"):
        store.create("claim", b"second")
    assert store.read("claim") == b"first"


def test_of_concurrent_creates_exactly_one_wins(store: Store) -> None:
    barrier = threading.Barrier(8)

    def race(content: bytes) -> bool:
        barrier.wait()
        try:
            store.create("race", content)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, [b"%d" % i for i in range(8)]))
    assert sum(won) == (1 if store.can_create else 8)
    assert store.read("race") in {b"%d" % i for i in range(8) if won[i]}


def test_deleting_twice_is_fine(store: Store) -> None:
    store.put("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    assert keys(store) == []
    with pytest.raises(FileNotFoundError):
        store.read("a/b")


# Their order by bytes is not that of a tree of folders.
MIXED = [
    "a b",
    "a!",
    "a-b",
    "a-c/d",
    "a.b",
    "a/b/c",
    "a/b0",
    "a/é",
    "a0",
    "ab",
    "b/a-1",
    "b/a/1",
    "z",
    "ü",
    "日本/語",
    "🙂",
]


@pytest.fixture
def mixed(store: Store) -> Store:
    for key in reversed(MIXED):
        store.put(key, key.encode())
    return store


def test_listings_are_sorted_by_the_bytes_of_the_keys(mixed: Store) -> None:
    assert keys(mixed) == sorted(MIXED, key=str.encode)
    assert all(mixed.read(key) == key.encode() for key in MIXED)


@pytest.mark.parametrize("prefix", ["a", "a/", "a/b", "a-b", "a-b/", "b/a", "日", "日本/", "x", "a/b/c", "a/b/c/d"])
def test_a_prefix_need_not_be_a_folder(mixed: Store, prefix: str) -> None:
    assert keys(mixed, prefix) == [key for key in sorted(MIXED, key=str.encode) if key.startswith(prefix)]


@pytest.mark.parametrize(
    "start_after", ["a", "a-b", "a-c/d", "a.b", "a/b", "a/b/c", "ab", "b/a-1", "b", "ü", "zz", "🙂"]
)
def test_start_after(mixed: Store, start_after: str) -> None:
    expected = [key for key in sorted(MIXED, key=str.encode) if key.encode() > start_after.encode()]
    assert keys(mixed, start_after=start_after) == expected
    assert keys(mixed, "a", start_after) == [key for key in expected if key.startswith("a")]


def test_a_place_sees_only_what_is_below_it(opened: Open) -> None:
    inner, sibling = opened("data"), opened("data-2")
    inner.put("x", b"1")
    sibling.put("y", b"2")
    assert (keys(inner), keys(sibling)) == (["x"], ["y"])


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a/.", "a\nb", "a\0b"])
def test_keys_that_lead_elsewhere_are_refused(store: Store, key: str) -> None:
    for use in (
        store.read,
        store.stat,
        store.delete,
        lambda key: store.put(key, b""),
        lambda key: store.create(key, b""),
    ):
        with pytest.raises(UrlError, match="cannot be a key"):
            use(key)


def test_a_listing_longer_than_a_page(store: Store) -> None:
    expected = sorted(f"shards/{i:04}.tar" for i in range(1050))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), expected))
    assert keys(store) == expected
    assert keys(store, "shards/", expected[-2]) == expected[-1:]


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1, max_size=8
)
KEYS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map("/".join)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=KEYS)
def test_any_key_can_be_used(store: Store, key: str) -> None:
    key = f"{next(_NUMBERS)}/{key}"  # what was a local folder once cannot become a file
    store.put(key, b"content")
    assert keys(store) == [key]
    assert store.read(key) == b"content"
    store.delete(key)
    assert keys(store) == []


def _create(url: str, options: StoreOptions, keys: list[str]) -> list[str]:
    """In another process: the keys that it won."""
    store = open_store(url, options, writable=True)
    won = []
    for key in keys:
        try:
            store.create(key, b"")
        except FileExistsError:
            continue
        won.append(key)
    return won


@pytest.mark.parametrize("scheme", ["local", "s3"])
def test_of_creates_by_several_processes_exactly_one_wins(
    scheme: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = str(tmp_path), StoreOptions()
    if scheme == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        for variable, value in server.env.items():
            monkeypatch.setenv(variable, value)
        server.make_bucket_once("stores")
        url, options = f"s3://stores/processes/{next(_NUMBERS)}", StoreOptions(endpoint_url=server.endpoint_url)
    expected = [f"{i}.json" for i in range(40)]
    with get_context("spawn").Pool(3) as pool:
        won = pool.starmap(_create, [(url, options, expected)] * 3)
    assert sorted(itertools.chain(*won)) == sorted(expected)


def test_a_state_of_many_small_and_some_large_tensors_is_the_same_though_its_memory_is_used_again(store: Store) -> None:
    sizes = [*range(600), PART_BYTES // 4 + 1, 5 * 10**6]
    state = {str(size): torch.arange(size, dtype=torch.float32) for size in sizes}
    expected = {name: tensor.clone() for name, tensor in state.items()}

    def produce(writer: Writer) -> None:
        write(state, writer)  # type: ignore[arg-type]
        for tensor in state.values():  # the store may be sending them still
            tensor.fill_(-1)

    digester = upload(store, "state.pth", produce, pauses_seconds=())
    file = FileDigest(key="state.pth", size=digester.size, chunks=digester.chunks())
    found = torch.load(whole_file(store, file, no_check), weights_only=True)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
