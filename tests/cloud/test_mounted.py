"""Two places that look like one: listed in order, read where the key belongs."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.mounted import Mounted
from tests.cloud.places import new_memory_store

names = st.sets(st.sampled_from(["a", "e", "eval-x", "eval/0", "eval/hidden", "f/g", "z"]))
mounted = st.sets(st.sampled_from(["0", "b", "c/d"]))


@given(names, mounted, st.sampled_from(["", "e", "eval/", "eval/c", "f"]), st.sampled_from(["", "eval/0", "f"]))
def test_the_listing_is_that_of_one_place(own, other, prefix, start_after):
    inner, outer = new_memory_store(), new_memory_store()
    for key in own:
        inner.put(key, b"inner " + key.encode())
    for key in other:
        outer.put(key, b"outer " + key.encode())
    both = Mounted(inner, "eval/", outer)
    expected = {key: b"inner " + key.encode() for key in own if not key.startswith("eval/")}
    expected |= {f"eval/{key}": b"outer " + key.encode() for key in other}
    listed = [entry.key for entry in both.list(prefix, start_after)]
    assert listed == sorted(key for key in expected if key.startswith(prefix) and key > start_after)
    for key in listed:
        assert both.read(key) == expected[key]
        assert both.stat(key).key == key
        assert both.stat(key).size == len(expected[key])
