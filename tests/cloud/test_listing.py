"""Listings in any order become listings in key order."""

from collections.abc import Iterator
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import Unreachable
from cloud.listing import all_begun, folders_out_of_place, in_key_order
from cloud.store import Entry

KEYS = st.lists(st.text("ab-./é🙂\udc80"), max_size=30)


def tree_order(key: str) -> list[str]:
    return key.split("/")


@given(keys=KEYS, run_entries=st.integers(1, 40))
def test_sorted_once_each_whatever_the_runs(keys: list[str], run_entries: int) -> None:
    entries = [Entry(key, len(key), f'"{key!r}"') for key in keys]
    expected = sorted(set(entries), key=lambda entry: entry.key.encode("utf-8", "surrogateescape"))
    assert list(in_key_order(entries, run_entries)) == expected


@given(
    keys=st.lists(st.text("ab-./", min_size=1).filter(lambda key: "//" not in key and key.strip("/") == key)),
    start_after=st.text("ab-./").filter(lambda key: "//" not in key and key.strip("/") == key),
)
def test_nothing_is_missed_on_a_server_that_lists_as_a_tree(keys: list[str], start_after: str) -> None:
    expected = {key for key in keys if key > start_after}
    listed = {key for key in keys if tree_order(key) > tree_order(start_after)}
    for folder in folders_out_of_place(start_after):
        listed |= {key for key in keys if key.startswith(folder)}
    assert expected <= listed


def test_a_folder_is_asked_for_once() -> None:
    assert folders_out_of_place("") == []
    assert folders_out_of_place("data/shard-0007.tar") == ["data/shard/", "data/shard-0007/", "data/shard-0007.tar/"]


def test_listings_are_begun_at_once_and_come_one_after_another() -> None:
    begun = Barrier(3, timeout=10)

    def listing(keys: str) -> Iterator[Entry]:
        begun.wait()
        yield from (Entry(key, 1, "") for key in keys)

    assert "".join(entry.key for entry in all_begun([listing("ba"), listing(""), listing("dc")])) == "badc"


def test_a_listing_that_fails_fails_all() -> None:
    def failing() -> Iterator[Entry]:
        raise Unreachable("no answer")
        yield

    with pytest.raises(Unreachable):
        list(all_begun([iter([Entry("a", 1, "")]), failing()]))
