"""The readers of `make fuzz`, in brief: their seeds are good, and damaged ones never make them fail."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import READERS, SEEDS

BYTES = st.binary(max_size=3) | st.sampled_from(
    [b"\x00", b"[", b"{", b'"', b"\\", b"\n", b"*", b"&", b"999", b"\xff", b"- "]
)


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in READERS for seed in SEEDS[name]])
def test_what_a_fuzzer_starts_from_is_accepted(name: str, seed: bytes) -> None:
    assert READERS[name](seed)
    assert not READERS[name](b"\xff\x00" + seed), "a reader that accepts everything would show nothing"


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_damage_makes_a_reader_fail(name: str, data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(SEEDS[name]))
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 8)))
        content = content[:start] + data.draw(BYTES) + content[end:]
    accepted = READERS[name](content)  # raises what a user must not see
    assert READERS[name](content) is accepted, "the same bytes are read the same way"
