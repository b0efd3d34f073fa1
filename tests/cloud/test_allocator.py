"""Freed memory goes back to the system, where the C library can be asked for that."""

import pytest

from cloud.allocator import _trim, give_back
from tests.benchmarks.measured import resident

NUM_BLOCKS, BLOCK_BYTES = 1000, 100_000


@pytest.mark.skipif(_trim() is int, reason="a C library without malloc_trim")
def test_what_was_freed_before_the_end_is_given_back() -> None:
    blocks = [bytes([number % 256]) * BLOCK_BYTES for number in range(NUM_BLOCKS)]
    last = blocks[-1]
    blocks.clear()
    before = resident("VmRSS")
    give_back()
    assert resident("VmRSS") < before - 0.8 * NUM_BLOCKS * BLOCK_BYTES
    assert last[0] == (NUM_BLOCKS - 1) % 256
