"""A file in memory: read like any other, and given up on the way."""

import io
import tracemalloc

import pytest
import torch

from cloud.allocator import _trim
from cloud.fetched import NUM_GIVEN_BACK, Fetched
from cloud.transfer import PART_BYTES
from tests.benchmarks.measured import resident


def fetched(data: bytes) -> Fetched:
    view = memoryview(data)
    return Fetched("a.pth", [view[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)])


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_it_reads_as_a_file_does() -> None:
    data = bytes(range(256)) * (PART_BYTES // 256) + b"the end"
    file, expected = fetched(data), io.BytesIO(data)
    assert (file.name, file.seekable(), file.readable()) == ("a.pth", True, True)
    for place, whence, size in ((PART_BYTES - 2, 0, 5), (-7, 2, 3), (1, 1, 100), (10, 2, 1), (3, 0, 0), (0, 0, -1)):
        assert file.seek(place, whence) == expected.seek(place, whence)
        assert file.read(size) == expected.read(size)
        assert file.tell() == expected.tell()


@pytest.mark.parametrize(
    "sizes", [[1, 2, 3], [*range(600), PART_BYTES // 4 + 1, 8 * 10**6], [PART_BYTES // 4] * 6, [1000] * 9000]
)
def test_torch_loads_from_it_what_is_given_up_meanwhile(sizes: list[int]) -> None:
    state = {number: torch.randn(size) for number, size in enumerate(sizes)}
    data = saved(state)
    file = fetched(data)
    found = torch.load(file, weights_only=True)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert len(file._parts) <= 3
    if len(data) > 3 * PART_BYTES:
        file.seek(0)
        with pytest.raises(OSError, match=r"a\.pth: read a second time"):
            file.read(1)


@pytest.mark.skipif(_trim() is int, reason="a C library without malloc_trim")
def test_the_system_has_back_what_is_given_up() -> None:
    b"x" * (4 * PART_BYTES - 100_000)  # glibc: what is no larger comes from then on from an arena, which keeps it
    file = Fetched("a", [memoryview(bytes([number]) * PART_BYTES) for number in range(NUM_GIVEN_BACK + 2)])
    last, buffer, before = b"x" * 100_000, bytearray(PART_BYTES), resident("VmRSS")
    while file.readinto(buffer):
        pass
    assert resident("VmRSS") < before - 0.8 * NUM_GIVEN_BACK * PART_BYTES
    assert len(last) == 100_000


def test_closed_it_holds_nothing() -> None:
    tracemalloc.start()
    file = Fetched("a", [memoryview(bytes(PART_BYTES)) for _ in range(4)])
    before = tracemalloc.get_traced_memory()[0]
    file.close()
    assert before - tracemalloc.get_traced_memory()[0] >= 4 * PART_BYTES
    tracemalloc.stop()
