"""Sealed files: what was written comes back, anything else is Damaged."""

import hashlib
import json
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import Damaged
from cloud.names import CheckpointName
from cloud.records import AttemptFile, ClaimFile, FileDigest, Host, Outcome, Record, Rejected, TookOver
from cloud.sealed import MAX_LINE_BYTES, MAX_RECORD_BYTES, seal, seal_lines, unseal, unseal_lines

HOST = Host(boot_id="b", pid_namespace="pid:[1]", pid=7, start_ticks=99, name="maschine-ä")
CLAIM = ClaimFile(attempt=7, nonce="n", host=HOST, took_over=TookOver(attempt=6, reason="gone"), beat_seconds=5.0)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def record(**changed: object) -> Record:
    fields = {
        "name": "ckpt_20_4810-a7", "attempt": 7, "epoch": 20, "global_step": 4810, "round": 2, "whole_epoch": False,
        "object": FileDigest(key="ckpt_20_4810-a7.pth", size=3, chunks=("ab",)),
        "ledgers": (FileDigest(key="ledger/round-0002-a7.jsonl.zst", size=9, chunks=("cd",)),),
        "parent": "ckpt_20-a6", "metrics": {"accuracy": 0.5}, "settings": {"seed": 1},
    }  # fmt: skip
    return Record(**(fields | changed))


SEALED = seal(record())


def test_a_record_comes_back_as_it_was() -> None:
    assert unseal(SEALED, Record) == record()
    assert record().place == CheckpointName(7, 20, 4810)


def test_the_digest_covers_every_byte_before_it_and_the_whole_is_json() -> None:
    assert SEALED.endswith(b'"}\n')
    assert json.loads(SEALED)["digest"].startswith("sha256:")
    assert list(json.loads(SEALED))[-1] == "digest"


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_any_metrics_come_back(metrics: dict[str, object]) -> None:
    one = record(metrics=metrics)
    assert unseal(seal(one), Record) == one


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_damage(place: int, change: int) -> None:
    data = bytearray(SEALED)
    data[place] ^= change
    with pytest.raises(Damaged):
        unseal(bytes(data), Record)


@given(st.integers(0, len(SEALED) - 1))
def test_any_truncation_is_damage(length: int) -> None:
    with pytest.raises(Damaged):
        unseal(SEALED[:length], Record)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    with pytest.raises(Damaged):
        unseal(data, Record)
    with pytest.raises(Damaged):
        list(unseal_lines(data))


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "ckpt_20-a7"},
        {"attempt": 8},
        {"attempt": -7},
        {"attempt": "7"},
        {"format": 2},
        {"object": {"key": "../../etc/passwd", "size": 3, "chunks": ["ab"]}},
        {"ledgers": [{"key": "ledger/../../x", "size": 3, "chunks": ["ab"]}]},
        {"object": {"key": "ckpt_20_4810-a7.pth", "size": 0, "chunks": []}},
        {"whole_epoch": 1},
    ],
)
def test_a_sealed_record_that_does_not_fit_the_schema_is_damage(changed: dict[str, object]) -> None:
    with pytest.raises(Damaged):
        unseal(seal(record().model_dump(mode="json") | changed), Record)


def test_deep_nesting_and_size_are_bounded() -> None:
    deep = b'{"format": 1, "metrics": ' + b"[" * 100_000
    hostile = deep + b', "digest": "sha256:%b"}\n' % hashlib.sha256(deep).hexdigest().encode()
    with pytest.raises(Damaged, match="recursion"):
        unseal(hostile, Record)
    with pytest.raises(Damaged, match="more than"):
        unseal(b" " * (MAX_RECORD_BYTES + 1), Record)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", "x" * MAX_RECORD_BYTES])
def test_what_could_not_be_read_back_is_not_written(value: object) -> None:
    with pytest.raises(ValueError):
        seal({"value": value})


def test_claim_and_outcome_are_one_flat_file() -> None:
    outcome = Outcome(
        outcome="stopped", exit_code=143, rejected=(Rejected("ckpt_2-a1", "empty"),), seconds={"total": 2}
    )
    data = seal(AttemptFile(**dict(CLAIM), **dict(outcome)))
    plain = json.loads(data)
    assert plain["attempt"] == 7 and plain["outcome"] == "stopped" and plain["host"]["pid"] == 7
    assert plain["rejected"] == [{"name": "ckpt_2-a1", "reason": "empty"}]
    assert unseal(data, AttemptFile).rejected == (Rejected("ckpt_2-a1", "empty"),)
    assert unseal(seal(CLAIM), AttemptFile).outcome is None


def test_an_outcome_with_too_many_shards_counts_them_all_and_names_the_first() -> None:
    many = Outcome(appended_shards=tuple(f"shard-{i}" for i in range(5000))).bounded()
    assert len(many.appended_shards) == 1000
    assert many.num_appended_shards == 5000


@given(st.lists(st.dictionaries(st.text(), PLAIN, max_size=3), max_size=5))
def test_lines_come_back(lines: list[dict[str, object]]) -> None:
    assert list(unseal_lines(seal_lines(lines))) == lines


LINES = [{"key": f"shard-{i}.tar", "labels": {"ä": i}} for i in range(20)]
PACKED = seal_lines(LINES)


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_changed_byte_of_a_ledger_never_changes_what_is_read(place: int, change: int) -> None:
    """Some bits of a zstd frame do not matter; whatever does must be found out."""
    data = bytearray(PACKED)
    data[place] ^= change
    with suppress(Damaged):
        assert list(unseal_lines(bytes(data))) == LINES


@given(st.integers(0, len(PACKED) - 1))
def test_a_truncated_ledger_is_damage_or_lost_no_line(length: int) -> None:
    """The last bytes of a zstd frame only say that it ends."""
    with suppress(Damaged):
        assert list(unseal_lines(PACKED[:length])) == LINES
        assert length > len(PACKED) - 8


def test_lines_removed_or_without_digest_are_damage() -> None:
    text = zstandard.ZstdDecompressor().decompressobj().decompress(PACKED)
    lines = text.splitlines(keepends=True)
    for changed in (lines[1:], lines[:-1], [*lines, lines[-1]], [lines[1], lines[0], *lines[2:]], []):
        with pytest.raises(Damaged):
            list(unseal_lines(zstandard.compress(b"".join(changed))))


def test_a_bomb_and_deep_nesting_end_at_the_bounds() -> None:
    with pytest.raises(Damaged, match="longer"):
        list(unseal_lines(zstandard.compress(b" " * (MAX_LINE_BYTES + 10))))
    with pytest.raises(Damaged, match="JSON"):
        list(unseal_lines(zstandard.compress(b"[" * 100_000 + b"\n{}\n")))
    with pytest.raises(Damaged, match="object"):
        list(unseal_lines(zstandard.compress(b"[1]\n{}\n")))
