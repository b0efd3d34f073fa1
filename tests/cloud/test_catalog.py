"""What is new, what changed, what is gone: against a model of dicts, in any order, in constant memory."""

import json
import logging
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.catalog import (
    INDEX_KEY,
    MAX_INDEX_BYTES,
    MAX_LINE_BYTES,
    Changes,
    IndexEntry,
    Known,
    compare,
    list_shards,
    read_index,
)
from cloud.errors import Damaged, Unreachable
from cloud.open import open_store
from cloud.store import Entry, Store
from tests.cloud.places import new_memory_store


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return new_memory_store()
    (tmp_path / "store").mkdir()
    return open_store(str(tmp_path / "store"), writable=True)


@dataclass(frozen=True)
class Place:
    """One key on both sides: None where it is not there; content is one character, version another."""

    known: tuple[int, str, str] | None
    listed: tuple[int, str, str] | None


versions = st.tuples(st.integers(0, 1), st.sampled_from("xy"), st.sampled_from(["", "1", "2"]))
keys = st.text(st.sampled_from("ab-/é𝄞\uffff"), min_size=1, max_size=4)
places = st.dictionaries(keys, st.builds(Place, st.none() | versions, st.none() | versions), max_size=12)


def model(places: dict[str, Place]) -> Changes:
    appended, changed, removed, num_same = [], [], [], 0
    for key, place in sorted(places.items(), key=lambda item: item[0].encode()):
        if place.listed is None:
            removed += [key] if place.known else []
            continue
        entry = Entry(key, place.listed[0], place.listed[2])
        if place.known is None:
            appended.append(entry)
        elif same(place.listed, place.known):
            num_same += 1
        else:
            changed.append(entry)
    return Changes(num_same, tuple(appended), tuple(changed), tuple(removed))


def same(listed: tuple[int, str, str], known: tuple[int, str, str]) -> bool:
    if listed[0] != known[0]:
        return False
    return listed[1] == known[1] or bool(listed[2] and listed[2] == known[2])


def sides(places: dict[str, Place]) -> tuple[list[Entry], list[Known]]:
    ordered = sorted(places.items(), key=lambda item: item[0].encode())
    listing = [Entry(key, place.listed[0], place.listed[2]) for key, place in ordered if place.listed]
    known = [Known(key, place.known[0], place.known[1], place.known[2]) for key, place in ordered if place.known]
    return listing, known


@given(places, st.booleans(), st.randoms(use_true_random=False))
def test_compare_agrees_with_the_model(places: dict[str, Place], in_order: bool, random: Random) -> None:
    listing, known = sides(places)
    if not in_order:
        random.shuffle(listing)
        random.shuffle(known)
    listing = [entry for entry in listing for _ in range(random.choice([1, 1, 1, 2, 3]))]

    def digest(entry: Entry) -> str:
        listed = places[entry.key].listed
        assert listed is not None
        return listed[1]

    assert compare(iter(listing), iter(known), digest) == model(places)


def test_keys_listed_twice_far_apart_do_no_harm() -> None:
    listing = [Entry(key, 1, "v") for key in ("a", "b", "a", "new", "b", "new")]
    changes = compare(listing, [Known("a", 1, "", "v")], lambda entry: "")
    assert {entry.key for entry in changes.appended} >= {"b", "new"}
    assert changes.removed == ()


def test_the_order_of_seaweedfs() -> None:
    listed = ["a/1", "a/2", "a/3", "a-b", "b"]
    known = [Known(key, 1, "", "v") for key in sorted(listed)]
    assert compare([Entry(key, 1, "v") for key in listed], known, lambda entry: "") == Changes(5, (), (), ())


def test_content_is_only_read_where_it_must_decide() -> None:
    asked: list[str] = []

    def digest(entry: Entry) -> str:
        asked.append(entry.key)
        return "old"

    known = [Known(key, 1, "old", "v") for key in "abcd"]
    listing = [Entry("a", 1, "v"), Entry("b", 1, "w"), Entry("c", 2, "w"), Entry("d", 2, "v")]
    changes = compare(listing, known, digest)
    assert asked == ["b"]
    assert changes == Changes(2, (), (Entry("c", 2, "w"), Entry("d", 2, "v")), ())


def test_many_copied_shards_are_digested_side_by_side() -> None:
    lock = threading.Lock()
    now = most = 0

    def digest(entry: Entry) -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        return "changed" if entry.key.endswith("7") else "same"

    names = [f"{number:04}" for number in range(200)]
    changes = compare([Entry(name, 1, "2") for name in names], [Known(name, 1, "same", "1") for name in names], digest)
    assert [entry.key for entry in changes.changed] == [name for name in names if name.endswith("7")]
    assert changes.num_same == 180
    assert 1 < most <= 4


def test_an_error_of_the_digest_goes_through_at_once() -> None:
    num_asked = 0

    def digest(entry: Entry) -> str:
        nonlocal num_asked
        num_asked += 1
        raise Unreachable("reset")

    names = [f"{number:04}" for number in range(1000)]
    with pytest.raises(Unreachable, match="reset"):
        compare([Entry(name, 1, "2") for name in names], [Known(name, 1, "", "1") for name in names], digest)
    assert num_asked < 200


def test_an_error_does_not_wait_for_the_digests_under_way() -> None:
    begun, end = threading.Event(), threading.Event()

    def digest(entry: Entry) -> str:
        if entry.key == "a":
            assert begun.wait(10)
            raise Unreachable("no answer")
        begun.set()
        end.wait(10)
        return ""

    listing = [Entry("a", 1, "new"), Entry("b", 1, "new")]
    known = [Known("a", 1, "", "old"), Known("b", 1, "", "old")]
    began = time.monotonic()
    try:
        with pytest.raises(Unreachable):
            compare(listing, known, digest)
        assert time.monotonic() - began < 5
    finally:
        end.set()


def test_memory_does_not_grow_with_the_listing() -> None:
    def listing() -> Iterator[Entry]:
        for number in range(200_000):
            yield Entry(f"shard-{number:07}.tar", 5, f"etag {number}")

    def known() -> Iterator[Known]:
        for number in range(10, 200_000):
            yield Known(f"shard-{number:07}.tar", 5, "", f"etag {number}")

    tracemalloc.start()
    try:
        changes = compare(listing(), known(), lambda entry: "")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (changes.num_same, len(changes.appended)) == (199_990, 10)
    assert peak < 2 * 2**20


def put_all(store: Store, *keys: str) -> None:
    for key in keys:
        store.put(key, key.encode())


def names(listing: Iterator[Entry]) -> list[str]:
    return [entry.key for entry in listing]


def test_shards_are_found_by_suffix(store: Store) -> None:
    shards = ["a.tar", "a.tar.gz", "b/a.tar.xz", "b/c.jsonl.zst", "b/d.jsonl", "eval/e.tar", "evaluation.tar"]
    put_all(store, *shards, "a.tar.zip", "tar", "b/a.tar/x", "readme.md", "a.gz", "a.TAR")
    assert names(list_shards(store, (".tar", ".jsonl"))) == shards
    assert names(list_shards(store, (".jsonl",))) == ["b/c.jsonl.zst", "b/d.jsonl"]
    assert names(list_shards(store, (".tar",), under="eval/")) == ["eval/e.tar"]
    assert names(list_shards(store, (".tar",), start_after="b/a.tar.xz")) == ["eval/e.tar", "evaluation.tar"]
    assert next(list_shards(store, (".tar",))).size == 5


def test_hidden_names_are_passed_over(store: Store) -> None:
    put_all(store, ".a.tar", "_a.tar", ".git/a.tar", "x/_tmp/a.tar", "x/.partial/1.tar", "x_y/a.b.tar", ".tar")
    assert names(list_shards(store, (".tar",))) == ["x_y/a.b.tar"]


class Lists:
    """A place that answers with whatever keys it likes."""

    url = "memory://hostile/"

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        return (Entry(key, 1, "v") for key in self.keys)


HOSTILE = [
    "../a.tar", "x/../a.tar", "./a.tar", "/etc/a.tar", "a//b.tar", "a\x00.tar", "a\nb.tar", "a\r.tar", "\x1b[2J.tar",
    "a\x7f.tar", "a\x9b.tar", "a\u2028.tar", "a\udc80.tar",
]  # fmt: skip


def test_misleading_names_are_passed_over_with_one_warning_each(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = names(list_shards(Lists(*HOSTILE, "..a/b.tar", "gut è 数字.tar", "a\n.txt"), (".tar",)))  # type: ignore[arg-type]
    assert found == ["gut è 数字.tar"]
    assert [record.getMessage() for record in caplog.records] == [
        f"passed over: {key!r} in memory://hostile/ is no name for a shard; rename it" for key in HOSTILE
    ]
    assert all(record.getMessage().isprintable() for record in caplog.records)


GOOD = {
    "key": "a.tar", "size": 3, "sha256": "0" * 64, "num_read": 4, "num_examples": 3,
    "labels": {"cat": 2, "": 1}, "bad": [[1, "no label"]],
}  # fmt: skip


KEYS = {"a.tar", "b/c.jsonl"}


def write_index(store: Store, *lines: str) -> None:
    store.put(INDEX_KEY, "\n".join(lines).encode())


def test_an_index_is_read_by_key(store: Store) -> None:
    assert read_index(store, KEYS) == {}
    other = GOOD | {"key": "b/c.jsonl", "keys": ["x", "y"], "bad": []}
    write_index(store, json.dumps(GOOD | {"size": 9}), "", json.dumps(other), json.dumps(GOOD), "")
    index = read_index(store, KEYS)
    assert list(index) == ["a.tar", "b/c.jsonl"]
    assert index["a.tar"] == IndexEntry.model_validate_json(json.dumps(GOOD))
    assert (index["a.tar"].size, index["a.tar"].bad, index["a.tar"].keys) == (3, ((1, "no label"),), None)
    assert index["b/c.jsonl"].keys == ("x", "y")
    assert list(read_index(store, {"b/c.jsonl", "gone"})) == ["b/c.jsonl"]


def test_lines_are_whole_wherever_the_reads_end(store: Store) -> None:
    lines = [GOOD | {"key": f"{number}.tar", "keys": ["é" * 400_000]} for number in range(30)]
    write_index(store, *(json.dumps(line, ensure_ascii=False) for line in lines))
    keys = [f"{number}.tar" for number in range(30)]
    assert list(read_index(store, keys)) == keys


BAD: dict[str, object] = {
    "size": -1, "sha256": "x", "num_read": "4", "num_examples": None, "labels": {"cat": 1.5}, "bad": [[1]],
    "keys": [1], "surplus": 1, "key": 7,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_field_is_named_with_its_line(store: Store, name: str) -> None:
    write_index(store, json.dumps(GOOD), json.dumps(GOOD | {name: BAD[name]}))
    with pytest.raises(Damaged, match=f"^{INDEX_KEY} in .*, line 2: {name}"):
        read_index(store, KEYS)


@pytest.mark.parametrize("line", ["{", "[]", "nul", '{"key": "a.tar"}', "\udcff"])
def test_a_line_that_is_none_of_an_index(store: Store, line: str) -> None:
    store.put(INDEX_KEY, line.encode(errors="surrogateescape"))
    with pytest.raises(Damaged, match=r"line 1: [^\n]+$"):
        read_index(store, KEYS)


def test_an_endless_line_is_not_read_to_its_end(store: Store) -> None:
    store.put(INDEX_KEY, b" " * (MAX_LINE_BYTES + 2**20) + b"{}\n" + json.dumps(GOOD).encode())
    with pytest.raises(Damaged, match=f"longer than {MAX_LINE_BYTES} bytes"):
        read_index(store, KEYS)


def test_an_index_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    (tmp_path / INDEX_KEY).touch()
    with (tmp_path / INDEX_KEY).open("r+b") as file:
        file.truncate(MAX_INDEX_BYTES + 1)
    with pytest.raises(Damaged, match=f"{MAX_INDEX_BYTES + 1} bytes"):
        read_index(open_store(str(tmp_path)), KEYS)
