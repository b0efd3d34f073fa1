"""Whole objects to local files and back: every byte, every digest, and nothing left after a failure."""

import hashlib
import io
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import AccessDenied, Damaged, StoreFull, Unreachable
from cloud.open import open_store
from cloud.store import Store, Writer
from cloud.transfer import (
    CHUNK_BYTES,
    GATHERED_BYTES,
    NUM_PARTS,
    PART_BYTES,
    PIECE_BYTES,
    UPLOAD_PAUSES_SECONDS,
    Digester,
    digest_file,
    fetch,
    file_errors,
    upload,
)
from tests.cloud.places import ReadsThrough, new_memory_store
from tests.cloud.wrappers import Wrapped


class WritesFail(Wrapped):
    """The first `num_failures` writers fail at their second write."""

    def __init__(self, store: Store, num_failures: int, error: Exception) -> None:
        super().__init__(store)
        self.num_left, self.error = num_failures, error

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        with self.inner.writer(key) as writer:
            if self.num_left:
                self.num_left -= 1
                yield FailsAtSecond(writer, self.error)
            else:
                yield writer


class CountsWrites(Wrapped):
    """How often its writers are written to."""

    num_writes = 0

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        with self.inner.writer(key) as writer:
            yield Counting(self, writer)


class Counting:
    def __init__(self, store: CountsWrites, writer: Writer) -> None:
        self.store, self.writer = store, writer

    def write(self, data: bytes, /) -> int:
        self.store.num_writes += 1
        return self.writer.write(data)


class FailsAtSecond:
    def __init__(self, writer: Writer, error: Exception) -> None:
        self.writer, self.error, self.num_writes = writer, error, 0

    def write(self, data: bytes, /) -> int:
        self.num_writes += 1
        if self.num_writes >= 2:
            raise self.error
        return self.writer.write(data)


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return new_memory_store()
    (tmp_path / "store").mkdir()
    return open_store(str(tmp_path / "store"), writable=True)


def content(size: int) -> bytes:
    """Bytes that differ from place to place, made fast."""
    return (os.urandom(65_537) * (size // 65_537 + 1))[:size]


def chunk_digests(data: bytes) -> tuple[str, ...]:
    return tuple(
        hashlib.sha256(data[start : start + CHUNK_BYTES]).hexdigest() for start in range(0, len(data), CHUNK_BYTES)
    )


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 7 * PART_BYTES + 5])
def test_fetch_copies_and_digests(store: Store, tmp_path: Path, size: int) -> None:
    data = content(size)
    store.put("a key", data)
    digester = Digester()
    fetch(store, "a key", tmp_path / "copy", size=size, digester=digester)
    assert (tmp_path / "copy").read_bytes() == data
    assert (digester.size, digester.sha256()) == (size, hashlib.sha256(data).hexdigest())


def test_chunks_are_digested_side_by_side_and_one_after_the_other(tmp_path: Path) -> None:
    data = content(2 * CHUNK_BYTES + 5)
    store = new_memory_store()
    store.put("k", data)
    side_by_side, in_order, of_file = (Digester(chunked=True) for _ in range(3))
    fetch(store, "k", tmp_path / "copy", size=len(data), digester=side_by_side)
    for start in range(0, len(data), 10_000_000):
        in_order.update(data[start : start + 10_000_000])
    digest_file(tmp_path / "copy", size=len(data), digester=of_file)
    assert side_by_side.chunks() == in_order.chunks() == of_file.chunks() == chunk_digests(data)
    assert side_by_side.size == in_order.size == len(data)
    assert (tmp_path / "copy").read_bytes() == data


def test_a_digester_refuses_what_it_was_not_made_for() -> None:
    whole, chunked = Digester(), Digester(chunked=True)
    for digester in (whole, chunked):
        for _ in range(3):
            digester.update(bytes(CHUNK_BYTES // 2))
    with pytest.raises(ValueError, match="no digests of chunks"):
        whole.chunks()
    with pytest.raises(ValueError, match="no digest of the whole"):
        chunked.sha256()
    assert Digester(chunked=True).chunks() == ()


@pytest.mark.parametrize("size", [10, PART_BYTES, 2 * PART_BYTES + 1])
@pytest.mark.parametrize("difference", [-1, 1, PART_BYTES])
def test_an_object_of_another_size_is_damaged(store: Store, tmp_path: Path, size: int, difference: int) -> None:
    store.put("k", content(max(size + difference, 0)))
    with pytest.raises(Damaged, match=f"^k in .*{size} bytes"):
        fetch(store, "k", tmp_path / "copy", size=size, digester=Digester())
    assert not (tmp_path / "copy").exists()


def test_a_file_of_another_size_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    for size in (0, 4, 6):
        with pytest.raises(Damaged, match=f"{size} bytes"):
            digest_file(tmp_path / "f", size=size, digester=Digester())


def test_a_missing_key_and_a_missing_folder_are_told_apart(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fetch(store, "none", tmp_path / "copy", size=3, digester=Digester())
    assert not (tmp_path / "copy").exists()
    with pytest.raises(Exception, match="nowhere/copy: No such file") as caught:
        fetch(store, "none", tmp_path / "nowhere/copy", size=3, digester=Digester())
    assert not isinstance(caught.value, OSError)


def test_fetch_never_writes_over_a_file(store: Store, tmp_path: Path) -> None:
    store.put("k", b"new")
    (tmp_path / "copy").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        fetch(store, "k", tmp_path / "copy", size=3, digester=Digester())
    assert (tmp_path / "copy").read_bytes() == b"old"


def test_an_error_in_the_middle_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def fail_third(key: str, number: int) -> None:
        if number == 3:
            raise Unreachable("reset")

    size = 5 * PART_BYTES
    store.put("k", content(size))
    with pytest.raises(Unreachable, match="reset"):
        fetch(ReadsThrough(store, fail_third), "k", tmp_path / "copy", size=size, digester=Digester())
    assert not (tmp_path / "copy").exists()


class Stopped(Exception):
    pass


def test_a_stop_gets_through_while_the_store_hangs(store: Store, tmp_path: Path) -> None:
    store.put("k", content(3 * PART_BYTES))
    answer = threading.Event()
    hanging = ReadsThrough(store, lambda key, number: number > 1 and answer.wait())
    deadline = time.monotonic() + 0.5

    def check() -> None:
        if time.monotonic() > deadline:
            raise Stopped

    started = time.monotonic()
    with pytest.raises(Stopped):
        fetch(hanging, "k", tmp_path / "copy", size=3 * PART_BYTES, digester=Digester(), check=check)
    assert time.monotonic() - started < 5
    assert not (tmp_path / "copy").exists()
    answer.set()
    while hanging.num_now:
        time.sleep(0.01)
    time.sleep(0.1)
    assert not (tmp_path / "copy").exists(), "a late answer must not bring the file back"


def test_parts_are_read_in_parallel_but_never_more_than_said(tmp_path: Path) -> None:
    store = new_memory_store()
    store.put("k", bytes(CHUNK_BYTES + 3 * PART_BYTES))
    for chunked in (False, True):
        slow = ReadsThrough(store, lambda key, number: time.sleep(0.05))
        path = tmp_path / f"copy {chunked}"
        fetch(slow, "k", path, size=CHUNK_BYTES + 3 * PART_BYTES, digester=Digester(chunked=chunked))
        assert 1 < slow.num_at_once <= NUM_PARTS


def test_a_full_disk_and_a_forbidden_place_have_names(tmp_path: Path) -> None:
    with pytest.raises(StoreFull, match="/dev/full"), file_errors(Path("/dev/full")):
        Path("/dev/full").write_bytes(b"x")
    with pytest.raises(AccessDenied, match="secret"), file_errors(tmp_path / "secret"):
        raise PermissionError


def test_a_disk_that_fills_up_while_fetching(tiny_disk: Path) -> None:
    store = new_memory_store()
    store.put("k", content(5 * 2**20))
    with pytest.raises(StoreFull, match=f"{tiny_disk}/copy"):
        fetch(store, "k", tiny_disk / "copy", size=5 * 2**20, digester=Digester())
    assert list(tiny_disk.iterdir()) == []


def test_upload_digests_what_was_handed_over_when_buffers_are_reused(store: Store) -> None:
    expected = b"".join(bytes([number]) * 300_000 for number in range(100))

    def produce(writer: Writer) -> None:
        buffer = bytearray(300_000)
        for number in range(100):
            buffer[:] = bytes([number]) * len(buffer)
            assert writer.write(memoryview(buffer)) == len(buffer)

    digester = upload(store, "k", produce)
    assert store.read("k") == expected
    assert digester.size == len(expected)
    assert digester.chunks() == chunk_digests(expected)


def test_upload_takes_buffers_of_any_form(store: Store) -> None:
    numbers = array("d", range(2 * PART_BYTES // 8 + 3))
    assert upload(store, "k", lambda writer: writer.write(numbers) and None).size == len(numbers) * 8
    assert store.read("k") == numbers.tobytes()
    assert upload(store, "empty", lambda writer: None).chunks() == ()
    assert store.read("empty") == b""


@given(st.lists(st.sampled_from([0, 1, 700, GATHERED_BYTES - 1, GATHERED_BYTES, PIECE_BYTES + 1]), max_size=30))
def test_writes_of_all_sizes_arrive_in_order(sizes: list[int]) -> None:
    store, buffer = new_memory_store(), bytearray(PIECE_BYTES + 1)

    def produce(writer: Writer) -> None:
        for number, size in enumerate(sizes):
            buffer[:size] = bytes([number]) * size
            assert writer.write(memoryview(buffer)[:size]) == size

    digester = upload(store, "k", produce)
    expected = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert store.read("k") == expected
    assert digester.chunks() == chunk_digests(expected)


def test_small_writes_reach_the_store_together() -> None:
    counted = CountsWrites(new_memory_store())
    upload(counted, "k", lambda writer: [writer.write(bytes(100)) for _ in range(3 * PIECE_BYTES // 100)] and None)
    assert counted.num_writes == 4  # of 960 KiB but the last: none is larger than a piece


PIECES = (b"one" * GATHERED_BYTES, b"two" * GATHERED_BYTES, b"three" * GATHERED_BYTES)


def three_pieces(writer: Writer) -> None:
    for piece in PIECES:
        writer.write(piece)


def test_upload_starts_over_when_the_store_is_unreachable(store: Store) -> None:
    pauses: list[float] = []
    digester = upload(WritesFail(store, 2, Unreachable("reset")), "k", three_pieces, sleep=pauses.append)
    assert store.read("k") == b"".join(PIECES)
    assert digester.chunks() == chunk_digests(b"".join(PIECES))
    assert pauses == list(UPLOAD_PAUSES_SECONDS)
    assert pauses == sorted(pauses)
    assert sum(pauses) <= 15


def test_upload_gives_up_after_three_tries_and_leaves_nothing(store: Store) -> None:
    failing = WritesFail(store, 3, Unreachable("reset"))
    with pytest.raises(Unreachable):
        upload(failing, "k", three_pieces, sleep=lambda seconds: None)
    assert failing.num_left == 0
    assert list(store.list()) == []


@pytest.mark.parametrize("error", [AccessDenied("no"), StoreFull("quota"), ValueError("bug")])
def test_upload_passes_other_errors_on_at_once(store: Store, error: Exception) -> None:
    failing = WritesFail(store, 2, error)
    with pytest.raises(type(error), match=str(error)):
        upload(failing, "k", three_pieces, sleep=lambda seconds: pytest.fail("nothing to wait for"))
    assert failing.num_left == 1
    assert list(store.list()) == []


def test_upload_leaves_nothing_when_producing_fails(store: Store) -> None:
    def produce(writer: Writer) -> None:
        writer.write(b"half")
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        upload(store, "k", produce)
    assert list(store.list()) == []


def hides_as_another_error(writer: Writer) -> None:
    try:
        three_pieces(writer)
    except Unreachable:
        raise RuntimeError("unexpected pos 64 vs 0") from None


def hides_altogether(writer: Writer) -> None:
    for piece in PIECES:
        with suppress(Unreachable):
            writer.write(piece)


@pytest.mark.parametrize("produce", [hides_as_another_error, hides_altogether])
def test_a_failed_write_counts_whatever_the_producer_makes_of_it(
    store: Store, produce: Callable[[Writer], None]
) -> None:
    upload(WritesFail(store, 1, Unreachable("reset")), "k", produce, sleep=lambda seconds: None)
    assert store.read("k") == b"".join(PIECES)


def test_a_state_as_torch_writes_it(store: Store) -> None:
    import torch

    state = {f"small.{number}": torch.randn(number % 7 + 1) for number in range(300)}
    state |= {f"large.{number}": torch.randn(3_000_001) for number in range(2)}
    digester = upload(store, "k", lambda writer: torch.save(state, writer))
    data = store.read("k")
    assert digester.chunks() == chunk_digests(data)
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    failing = WritesFail(store, 3, Unreachable("reset"))
    with pytest.raises(Unreachable, match="reset"):
        upload(failing, "other", lambda writer: torch.save(state, writer), sleep=lambda seconds: None)
    assert [entry.key for entry in store.list()] == ["k"]
