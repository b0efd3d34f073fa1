"""What is continued from: the newest checkpoint that is whole, and the reason for every one that was passed over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud.errors import AccessDenied, Damaged, Unreachable
from cloud.fetched import Fetched
from cloud.folder import OutputFolder
from cloud.names import CheckpointName
from cloud.records import FileDigest
from cloud.sealed import seal
from cloud.store import Store
from tests.cloud.folders import DONE, attempts, held, new_folder, publish
from tests.cloud.wrappers import Failing, Far, Noisy, Wrapped, flipped


def no_check() -> None:
    pass


@pytest.fixture(params=["local", "far local", "memory", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    return new_folder(request.param, request)


def content(file: Path | Fetched) -> bytes:
    return file.read() if isinstance(file, Fetched) else file.read_bytes()


def chosen(store: Store) -> tuple[str | None, dict[str, str]]:
    folder = OutputFolder(store)
    got = folder.choose(no_check)
    if got is not None:
        assert isinstance(got.file, Fetched) == (store.local_path(got.record.object.key) is None)
        assert content(got.file) == store.read(got.record.object.key)
        assert list(folder.read_ledger(got.record.ledgers[0])) == [{"key": "a.tar"}]
    return None if got is None else got.record.name, {one.name: one.reason for one in folder.rejected}


def test_an_empty_folder_has_nothing_to_choose(store: Store) -> None:
    assert chosen(store) == (None, {})
    assert OutputFolder(store).is_newest(None)


def test_numbers_decide_and_not_text_or_time(store: Store) -> None:
    folder = held(store)
    for epoch in (100, 9, 10):
        publish(folder, epoch)
    assert chosen(store) == ("ckpt_100-a1", {})
    publish(folder, 100, 10_001)
    publish(folder, 100, 9_999)
    assert chosen(store) == ("ckpt_100_10001-a1", {})
    folder.claim.finish(DONE)
    attempts(store, 3)
    assert chosen(store) == ("ckpt_3-a2", {})
    assert [one.name for one in OutputFolder(store).records()][:2] == ["ckpt_3-a2", "ckpt_100_10001-a1"]


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("ckpt_2-a2.pth", lambda data: data[:-1], "…: 15 bytes, the record says 16: truncated"),
        ("ckpt_2-a2.pth", lambda data: data + b"x", "…: 17 bytes, the record says 16: damaged"),
        ("ckpt_2-a2.pth", lambda data: b"", "…: empty"),
        ("ckpt_2-a2.pth", flipped, "…: digest of chunk 1 differs: damaged"),
        ("ckpt_2-a2.pth", None, "…: no object"),
        ("ckpt_2-a2.json", flipped, "…: its digest differs: damaged"),
        ("ckpt_2-a2.json", lambda data: data[:-1], "…: does not end with its digest: truncated or damaged"),
        ("ckpt_2-a2.json", None, "no record: never committed"),
    ],
)  # fmt: skip
def test_a_bad_newest_one_is_passed_over_and_named(
    store: Store, key: str, change: Callable[[bytes], bytes] | None, reason: str
) -> None:
    attempts(store, 1, 2)
    if change is None:
        store.delete(key)
    else:
        store.put(key, change(store.read(key)))
    assert chosen(store) == ("ckpt_1-a1", {"ckpt_2-a2": reason.replace("…", key)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flipped, "…: digest of chunk 1 differs: damaged"),
        (lambda data: data[:-1], "…: truncated"),
        (None, "…: no object"),
    ],
)
def test_a_lost_ledger_is_told_of_and_no_reason_to_go_back_until_it_is_given_up(
    store: Store, change: Callable[[bytes], bytes] | None, reason: str
) -> None:
    attempts(store, 1, 2)
    key = "ledger/round-0001-a2.jsonl.zst"
    if change is None:
        store.delete(key)
    else:
        store.put(key, change(store.read(key)))
    folder = OutputFolder(store)
    got = folder.choose(no_check)
    assert got is not None and (got.record.name, got.rejected) == ("ckpt_2-a2", ())
    ((file, why),) = got.lost.items()
    assert file == got.record.ledgers[0] and why.startswith(key)
    assert why.endswith(reason.removeprefix("…: "))
    older = folder.choose(no_check, given_up={file: "cannot be rebuilt"})
    assert older is not None and (older.record.name, older.lost) == ("ckpt_1-a1", {})
    assert [(one.name, one.reason) for one in older.rejected] == [("ckpt_2-a2", "cannot be rebuilt")]
    assert folder.is_newest(older)


def test_where_metrics_tell_of_checkpoints_and_no_record_is_left_it_does_not_begin_anew(store: Store) -> None:
    attempts(store, 1)
    store.put("metrics/000001.jsonl", b"{}\n")
    store.delete("ckpt_1-a1.json")
    with pytest.raises(Damaged, match=r"no record .* is left .* \(metrics/000001.jsonl tells .* --start_over"):
        OutputFolder(store).choose(no_check)
    assert OutputFolder(store).choose(no_check, start_over=True) is None


def test_files_that_only_look_like_checkpoints_are_named_with_a_reason(store: Store) -> None:
    attempts(store, 1)
    strangers = [
        "old_ckpt_99.pth",
        "ckpt_7.pth",
        "ckpt_2-a9.pth.sagemaker-uploading",
        "ckpt_2-a9.pth.sagemaker-uploaded",
    ]
    ours = ["model/model.pth", "metrics/000001.jsonl", "report.html", "_ckpt_4-a1.pth"]
    for key in strangers + ours:
        store.put(key, b"x")
    name, rejected = chosen(store)
    assert name == "ckpt_1-a1"
    assert rejected.keys() == set(strangers)
    assert "unfinished upload" in rejected["ckpt_2-a9.pth.sagemaker-uploading"]
    assert "only in a folder without a record" in rejected["ckpt_7.pth"]


def test_older_leftovers_are_not_worth_a_word(store: Store) -> None:
    attempts(store, 1, 2)
    store.delete("ckpt_1-a1.json")
    assert chosen(store) == ("ckpt_2-a2", {})


def test_a_record_of_another_checkpoint_is_not_taken_for_this_one(store: Store) -> None:
    attempts(store, 1, 2)
    store.put("ckpt_2-a2.json", store.read("ckpt_1-a1.json"))
    name, rejected = chosen(store)
    assert name == "ckpt_1-a1" and rejected == {"ckpt_2-a2": "ckpt_2-a2.json: the record of ckpt_1-a1"}


def test_when_none_can_be_used_it_says_so_unless_told_to_start_over(store: Store) -> None:
    attempts(store, 1, 2)
    for key in ("ckpt_1-a1.pth", "ckpt_2-a2.pth"):
        store.put(key, b"")
    folder = OutputFolder(store)
    with pytest.raises(Damaged, match=r"none of the 2 checkpoints in .* ckpt_2-a2.pth: empty; --start_over"):
        folder.choose(no_check)
    assert folder.choose(no_check, start_over=True) is None
    assert [one.name for one in folder.rejected] == ["ckpt_2-a2", "ckpt_1-a1"]
    assert folder.is_newest(None)


def test_an_upload_that_was_never_committed_does_not_forbid_a_fresh_start(store: Store) -> None:
    store.put("ckpt_1-a1.pth", b"state")
    assert chosen(store) == (None, {"ckpt_1-a1": "no record: never committed"})


def test_the_way_may_damage_bytes_once(store: Store) -> None:
    """A wrong byte on the way is not one in the store: a second fetch finds out."""
    attempts(store, 1, 2)

    noisy = {"ckpt_2-a2.json", "ckpt_2-a2.pth", "ledger/round-0001-a2.jsonl.zst"}

    assert chosen(Noisy(store, noisy)) == ("ckpt_2-a2", {})
    assert not noisy


@pytest.mark.parametrize("key", ["ckpt_2-a2.json", "ckpt_2-a2.pth", "ledger/round-0001-a2.jsonl.zst"])
def test_a_store_that_fails_is_no_reason_to_go_back(store: Store, key: str) -> None:
    attempts(store, 1, 2)
    failing = Failing(Far(store), "read", lambda other: other == key, after=False)
    with pytest.raises(Unreachable):
        OutputFolder(failing).choose(no_check)

    class Refusing(Far):
        def read(self, other: str, start: int = 0, end: int | None = None) -> bytes:
            if other == key:
                raise AccessDenied("no")
            return super().read(other, start, end)

    with pytest.raises(AccessDenied):
        OutputFolder(Refusing(store)).choose(no_check)


def test_a_checkpoint_that_is_pruned_meanwhile_leads_to_the_newer_one(store: Store) -> None:
    attempts(store, 1)

    class Pruned(Wrapped):
        listed = 0

        def list(self, prefix: str = "", start_after: str = "") -> object:
            entries = list(super().list(prefix, start_after))
            self.listed += 1
            if self.listed == 1:
                attempts(self.inner, 2)
                self.inner.delete("ckpt_1-a1.json")
                self.inner.delete("ckpt_1-a1.pth")
            return iter(entries)

    folder = OutputFolder(Pruned(store))
    got = folder.choose(no_check)
    assert got is not None and got.record.name == "ckpt_2-a2" and got.rejected == ()


def test_a_stop_ends_choosing(store: Store) -> None:
    attempts(store, 1)

    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        OutputFolder(store).choose(check)


def test_what_was_chosen_before_the_claim_may_be_old(store: Store) -> None:
    attempts(store, 1)
    # An upload under way when the choice was made, committed after it.
    folder = held(store)
    store.put("ckpt_2-a2.pth", b"not yet")
    reader = OutputFolder(store)
    got = reader.choose(no_check)
    assert reader.is_newest(got)
    publish(folder, 2)
    assert not reader.is_newest(got)
    assert reader.is_newest(reader.choose(no_check))


def test_what_was_refused_before_the_claim_does_not_count_as_newer(store: Store) -> None:
    attempts(store, 1, 2)
    store.put("ckpt_2-a2.pth", b"")
    reader = OutputFolder(store)
    assert reader.is_newest(reader.choose(no_check))


def foreign(store: Store, tmp_path: Path) -> list[tuple[str, int, bytes]]:
    found = OutputFolder(store).foreign(tmp_path, no_check)
    return [(one.name, one.epoch, one.path.read_bytes()) for one in found]


def test_somebodys_own_checkpoints_come_highest_epoch_first(store: Store, tmp_path: Path) -> None:
    for key in (
        "ckpt_9.pth",
        "ckpt_10.pth",
        "ckpt_100.pth",
        "ckpt_best_10.pth",
        "old_ckpt_999.pth",
        "ckpt_200.pth.tmp",
    ):
        store.put(key, key.encode())
    store.put("ckpt_101.pth", b"")
    assert foreign(store, tmp_path) == [
        ("ckpt_101.pth", 101, b""),
        ("ckpt_100.pth", 100, b"ckpt_100.pth"),
        ("ckpt_10.pth", 10, b"ckpt_10.pth"),
        ("ckpt_best_10.pth", 10, b"ckpt_best_10.pth"),
        ("ckpt_9.pth", 9, b"ckpt_9.pth"),
    ]
    assert not list(tmp_path.glob("ckpt*"))
    name, rejected = chosen(store)
    assert name is None and rejected.keys() == {"old_ckpt_999.pth", "ckpt_200.pth.tmp"}


def test_they_do_not_count_beside_a_record_not_even_a_bad_one(store: Store, tmp_path: Path) -> None:
    store.put("ckpt_9.pth", b"state")
    store.put("ckpt_1-a1.json", b"{}")
    assert foreign(store, tmp_path) == []


def test_records_that_cannot_be_read_are_named(store: Store) -> None:
    attempts(store, 1, 2)
    store.put("ckpt_2-a2.json", b"[" * 10_000)
    folder = OutputFolder(store)
    assert [one.name for one in folder.records()] == ["ckpt_1-a1"]
    assert [one.name for one in folder.rejected] == ["ckpt_2-a2"]


def test_a_ledger_that_became_bad_later_is_found_out(store: Store) -> None:
    attempts(store, 1)
    record = OutputFolder(store).records()[0]
    store.put(record.ledgers[0].key, flipped(store.read(record.ledgers[0].key)))
    with pytest.raises(Damaged):
        list(OutputFolder(store).read_ledger(record.ledgers[0]))


def test_a_hostile_record_cannot_lead_out_of_the_folder(store: Store) -> None:
    attempts(store, 1)
    name = CheckpointName(9, 9)
    plain = OutputFolder(store).records()[0].model_dump(mode="json")
    plain |= {"name": str(name), "attempt": 9, "epoch": 9, "object": {"key": "../x.pth", "size": 1, "chunks": ["a"]}}
    store.put(name.record_key, seal(plain))
    chosen_name, rejected = chosen(store)
    assert chosen_name == "ckpt_1-a1" and "do not agree" in rejected["ckpt_9-a9"]


def test_a_digest_without_its_chunks_is_not_taken_on_trust(store: Store) -> None:
    attempts(store, 1, 2)
    record = OutputFolder(store).records()[0]
    short = FileDigest(key=record.object.key, size=record.object.size, chunks=())
    store.put("ckpt_2-a2.json", seal(record.model_copy(update={"object": short})))
    name, rejected = chosen(store)
    assert name == "ckpt_1-a1" and "chunks" in rejected["ckpt_2-a2"]
