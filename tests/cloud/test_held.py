"""Commits and prunes: only while the claim is held, and in an order in which nothing can be lost."""

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.errors import ClaimLost, Damaged, Unreachable
from cloud.folder import OutputFolder
from cloud.held import HeldFolder, Produce
from cloud.names import CheckpointName
from cloud.open import open_store
from cloud.pruning import Keeping
from cloud.records import Record
from cloud.store import Entry, Store, Writer
from tests.cloud.folders import DONE, claimed, held, new_folder, publish
from tests.cloud.wrappers import Cutting, Doubling, Failing, Far, PutOnly, Wrapped

KEEP_TWO = Keeping(last=2, best=0, every=0, score=lambda record: None)


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"), writable=True)


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    return new_folder(request.param, request)


def checkpoints(store: Store) -> list[str]:
    return sorted(entry.key for entry in store.list("ckpt_"))


def no_check() -> None:
    pass


def writes(data: bytes) -> Produce:
    return lambda writer: writer.write(data)


def test_a_commit_is_an_object_and_a_record_that_agree(store: Store) -> None:
    folder = HeldFolder(store, claimed(store))
    first, second = publish(folder, 1), publish(folder, 1, 150)
    assert checkpoints(store) == ["ckpt_1-a1.json", "ckpt_1-a1.pth", "ckpt_1_150-a1.json", "ckpt_1_150-a1.pth"]
    assert (first.parent, second.parent) == (None, "ckpt_1-a1")
    assert (first.whole_epoch, second.whole_epoch) == (True, False)
    assert OutputFolder(store).records() == [second, first]
    plain = json.loads(store.read("ckpt_1-a1.json"))
    assert plain["object"]["size"] == len(store.read("ckpt_1-a1.pth")) and plain["epoch"] == 1


def test_the_object_comes_before_the_record_and_the_check_between_them(local: Store) -> None:
    done: list[str] = []

    class Watched(Wrapped):
        def writer(self, key: str) -> object:
            done.append(f"write {key}")
            return super().writer(key)

        def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
            done.append(f"list {prefix} after {start_after}")
            return super().list(prefix, start_after)

        def create(self, key: str, data: bytes) -> None:
            done.append(f"create {key}")
            super().create(key, data)

    folder = held(Watched(local))
    ledger = folder.write_ledger(1, [])
    done.clear()
    fields = {"global_step": 9, "round": 1, "metrics": {}, "settings": {}}
    folder.publish(1, None, writes(b"x"), ledgers=(ledger,), **fields)
    check = "list attempts/ after attempts/000001"
    assert done == [check, "write ckpt_1-a1.pth", check, "create ckpt_1-a1.json"]


def test_publishing_the_same_again_writes_nothing(local: Store) -> None:
    folder = held(local)
    record = publish(folder, 1)
    version = local.stat("ckpt_1-a1.pth").version
    assert publish(folder, 1, data=b"other bytes") == record
    assert local.stat("ckpt_1-a1.pth").version == version and folder.num_committed == 1


def test_who_lost_the_claim_commits_nothing_and_leaves_nothing(local: Store) -> None:
    folder = held(local)
    publish(folder, 1)

    def produce(writer: Writer) -> None:
        writer.write(b"state")
        claimed(local)

    fields = {"global_step": 9, "round": 1, "ledgers": (), "metrics": {}, "settings": {}}
    with pytest.raises(ClaimLost):
        folder.publish(2, None, produce, **fields)
    assert checkpoints(local) == ["ckpt_1-a1.json", "ckpt_1-a1.pth"]
    for write in (lambda: folder.write_view("model/x", b""), lambda: publish(folder, 3)):
        with pytest.raises(ClaimLost):
            write()
    assert not list(local.list("model/"))


def is_record(key: str) -> bool:
    return key.startswith("ckpt_") and key.endswith(".json")


@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
def test_a_record_without_an_answer_is_settled_by_reading_it(local: Store, after: bool) -> None:
    folder = held(Failing(local, "create", is_record, after=after))
    if not after:
        with pytest.raises(Unreachable):
            publish(folder, 1)
        assert folder.num_committed == 0
    version = publish(folder, 1) and local.stat("ckpt_1-a1.pth").version
    assert folder.num_committed == 1
    publish(folder, 1)
    assert local.stat("ckpt_1-a1.pth").version == version


def test_a_record_that_is_read_back_cut_short_is_read_again(local: Store) -> None:
    folder = held(Cutting(Doubling(local), is_record))
    assert publish(folder, 1).name == "ckpt_1-a1"


def test_an_object_whose_record_is_uncertain_is_not_written_again(local: Store) -> None:
    """The record may be there already, and would name other bytes."""

    class Silent(Wrapped):
        silent = True

        def create(self, key: str, data: bytes) -> None:
            super().create(key, data)
            if is_record(key) and self.silent:
                raise Unreachable("no answer")

        def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
            if is_record(key) and self.silent:
                raise Unreachable("no answer")
            return super().read(key, start, end)

    store = Silent(local)
    folder = held(store)
    with pytest.raises(Unreachable):
        publish(folder, 1, data=b"these bytes")
    Silent.silent = False
    publish(folder, 1, data=b"other bytes, as torch may write the same tensors differently")
    assert local.read("ckpt_1-a1.pth") == b"these bytes"
    got = OutputFolder(local).choose(no_check)
    assert got is not None and got.rejected == ()


def test_the_object_of_a_record_that_may_be_there_stays_when_the_claim_is_lost(local: Store) -> None:
    class Silent(Wrapped):
        """Creates a record, and then gives no answer about it."""

        def create(self, key: str, data: bytes) -> None:
            super().create(key, data)
            if is_record(key):
                raise Unreachable("no answer")

        def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
            if is_record(key):
                raise Unreachable("no answer")
            return super().read(key, start, end)

    folder = held(Silent(local))
    with pytest.raises(Unreachable):
        publish(folder, 1)
    claimed(local)
    with pytest.raises(ClaimLost):
        publish(folder, 1)
    got = OutputFolder(local).choose(no_check)
    assert got is not None and got.record.name == "ckpt_1-a1" and got.rejected == ()


def test_taken_by_nothing_means_that_it_is_worth_another_try(local: Store) -> None:
    """As some servers say of two creates at a time, of which neither was done."""

    class Taken(Wrapped):
        taken = True

        def create(self, key: str, data: bytes) -> None:
            if is_record(key) and self.taken:
                raise FileExistsError(key)
            super().create(key, data)

    store = Taken(local)
    folder = held(store)
    with pytest.raises(Unreachable, match=r"ckpt_1-a1\.json"):
        publish(folder, 1)
    store.taken = False
    assert publish(folder, 1).name == "ckpt_1-a1"


@pytest.mark.parametrize("wrapped", [Doubling, PutOnly], ids=["doubled", "put only"])
def test_commits_on_other_stores(local: Store, wrapped: Callable[[Store], Store]) -> None:
    store = wrapped(local)
    folder = held(store)
    publish(folder, 1)
    publish(folder, 2)
    got = OutputFolder(store).choose(no_check)
    assert got is not None and got.record.name == "ckpt_2-a1"


def test_a_name_that_is_taken_by_other_bytes_is_an_error(local: Store) -> None:
    folder = held(local)
    local.put("ckpt_1-a1.json", b"somebody's")
    with pytest.raises(Damaged, match="other content"):
        publish(folder, 1)


def test_what_torch_cannot_save_leaves_nothing(local: Store) -> None:
    def produce(writer: Writer) -> None:
        writer.write(b"half")
        raise RuntimeError("cannot be pickled")

    fields = {"global_step": 9, "round": 1, "ledgers": (), "metrics": {}, "settings": {}}
    with pytest.raises(RuntimeError):
        held(local).publish(1, None, produce, **fields)
    assert checkpoints(local) == []


def test_ledgers_metrics_and_views(store: Store) -> None:
    folder = held(store)
    lines = [{"key": f"{i}.tar", "num_examples": i} for i in range(3)]
    file = folder.write_ledger(2, lines)
    assert file.key == "ledger/round-0002-a1.jsonl.zst"
    assert list(folder.read_ledger(file)) == list(OutputFolder(store).read_ledger(file)) == lines
    assert folder.write_ledger(2, lines) == file
    with pytest.raises(Damaged):
        folder.write_ledger(2, lines[1:])
    folder.write_metrics([{"epoch": 1}])
    folder.write_metrics([{"epoch": 1}, {"epoch": 2}])
    assert store.read("metrics/000001.jsonl") == b'{"epoch": 1}\n{"epoch": 2}\n'
    folder.write_view("model/config.json", b"{}")
    folder.write_view("model/weights", writes(b"weights"))
    assert store.read("model/config.json") == b"{}" and store.read("model/weights") == b"weights"
    with pytest.raises(ValueError, match="no view"):
        folder.write_view("ckpt_1-a1.pth", b"")


def test_nothing_is_pruned_before_two_own_commits(local: Store) -> None:
    first = held(local)
    for epoch in (1, 2, 3):
        publish(first, epoch)
    first.claim.finish(DONE)
    second = held(local)
    assert second.prune(KEEP_TWO) == ()
    publish(second, 4)
    assert second.prune(KEEP_TWO) == ()
    publish(second, 5)
    removed = second.prune(KEEP_TWO)
    assert checkpoints(local) == ["ckpt_4-a2.json", "ckpt_4-a2.pth", "ckpt_5-a2.json", "ckpt_5-a2.pth"]
    assert removed[:2] == ("ckpt_1-a1.json", "ckpt_1-a1.pth")
    assert [entry.key for entry in local.list("ledger/")] == ["ledger/round-0001-a2.jsonl.zst"]


def test_nothing_is_pruned_when_the_newest_are_not_there(local: Store) -> None:
    folder = held(local)
    for epoch in (1, 2, 3):
        publish(folder, epoch)
    local.put("ckpt_3-a1.pth", b"cut")
    assert folder.prune(KEEP_TWO) == ()
    assert "ckpt_1-a1.pth" in checkpoints(local)


def test_who_lost_the_claim_prunes_nothing(local: Store) -> None:
    folder = held(local)
    for epoch in (1, 2, 3):
        publish(folder, epoch)
    before = checkpoints(local)
    claimed(local)
    with pytest.raises(ClaimLost):
        folder.prune(KEEP_TWO)
    assert checkpoints(local) == before


def test_records_of_pruned_checkpoints_are_forgotten(local: Store) -> None:
    folder = held(local)
    published = []
    for epoch in range(1, 12):
        published.append(weakref.ref(publish(folder, epoch)))
        folder.prune(KEEP_TWO)
    gc.collect()
    assert sum(one() is not None for one in published) <= 3, "the two that are kept, and one pruned just now"


def test_leftovers_go_whoever_left_them(local: Store) -> None:
    for key in ("ckpt_1-a1.pth", "ledger/round-0001-a1.jsonl.zst"):
        local.put(key, b"killed before its record")
    folder = held(local)
    assert folder.claim.number == 2
    local.put("ckpt_9_950-a2.pth", b"an upload of this attempt whose record failed")
    local.put("ckpt_9.pth", b"somebody's own")
    future = folder.write_ledger(2, [{"key": "of a round that no checkpoint names yet"}])
    publish(folder, 1)
    publish(folder, 2)
    assert set(folder.prune(KEEP_TWO)) == {"ckpt_1-a1.pth", "ckpt_9_950-a2.pth", "ledger/round-0001-a1.jsonl.zst"}
    assert "ckpt_9.pth" in checkpoints(local) and local.stat(future.key)


def test_a_record_that_cannot_be_read_stays_with_all_that_it_may_need(local: Store) -> None:
    first = held(local)
    publish(first, 1)
    first.claim.finish(DONE)
    local.put("ckpt_1-a1.json", b"of a later version of this program, perhaps")
    second = held(local)
    for epoch in (1, 2, 3):
        publish(second, epoch)
    assert second.prune(KEEP_TWO) == ("ckpt_1-a2.json", "ckpt_1-a2.pth")
    assert local.stat("ckpt_1-a1.pth") and local.stat("ledger/round-0001-a1.jsonl.zst")


@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("at", range(4))
def test_a_prune_that_ends_anywhere_is_finished_by_the_next(local: Store, at: int, after: bool) -> None:
    seen: list[str] = []

    def which(key: str) -> bool:
        seen.append(key)
        return len(seen) == at + 1

    folder = held(Failing(local, "delete", which, after=after))
    for epoch in (1, 2, 3, 4):
        publish(folder, epoch)
    with pytest.raises(Unreachable):
        folder.prune(KEEP_TWO)
    names = {key.rpartition(".")[0] for key in checkpoints(local) if key.endswith(".json")}
    assert all(f"{name}.pth" in checkpoints(local) for name in names)
    folder.prune(KEEP_TWO)
    assert checkpoints(local) == ["ckpt_3-a1.json", "ckpt_3-a1.pth", "ckpt_4-a1.json", "ckpt_4-a1.pth"]


STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 9), st.sampled_from(["go on", "go on", "prune", "kill", "half", "damage"])),
    max_size=14,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.integers(2, 3), st.integers(0, 2), st.integers(0, 3))
def test_after_any_history_the_newest_is_whole_and_what_should_be_kept_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, str]], last: int, best: int, every: int
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("history")), writable=True)
    keeping = Keeping(last=last, best=best, every=every, score=score)
    folder, epoch, step = held(store), 0, 0
    committed: list[Record] = []
    for whole, metric, then in steps:
        step += 10
        epoch += whole
        ledger = folder.write_ledger(1, [{"key": "a"}])
        committed.append(
            folder.publish(
                epoch, None if whole else step, writes(b"state %d" % step), global_step=step,
                round=1, ledgers=(ledger,), metrics={"score": metric}, settings={},
            )
        )  # fmt: skip
        if then == "prune":
            folder.prune(keeping)
        if then == "half":
            store.put(f"ckpt_{epoch}_{step + 5}-a{folder.claim.number}.pth", b"half")
        if then in ("kill", "half"):
            folder.claim.finish(DONE)
            folder = HeldFolder(store, claimed(store), parent=committed[-1])
    folder.prune(keeping)
    got = OutputFolder(store).choose(no_check)
    assert (got and got.record) == (committed[-1] if committed else None)
    there = {record.name for record in OutputFolder(store).records()}
    whole_ones = [record for record in committed if record.whole_epoch]
    must = committed[-2:] + whole_ones[-last:] + [r for r in whole_ones if every and r.epoch % every == 0]
    assert {record.name for record in must} <= there
    top = sorted((score(record) or 0 for record in whole_ones), reverse=True)[:best]
    assert sorted((score(r) or 0 for r in whole_ones if r.name in there), reverse=True)[: len(top)] == top
    for record in OutputFolder(store).records():
        assert store.stat(record.object.key).size == record.object.size
        assert all(list(OutputFolder(store).read_ledger(file)) == [{"key": "a"}] for file in record.ledgers)


def score(record: Record) -> float | None:
    value = record.metrics["score"]
    return float(value) if isinstance(value, (int, float)) else None


def test_a_late_record_of_a_paused_attempt_never_comes_first(store: Store) -> None:
    """Stopped between its check and its put, the old attempt adds one record: below all of its successor's."""
    old = held(store)
    publish(old, 5)
    records: list[tuple[str, bytes]] = []

    class Paused(Far):
        def create(self, key: str, data: bytes) -> None:
            records.append((key, data)) if is_record(key) else super().create(key, data)

    old._store = Paused(store)
    publish(old, 6)
    old.claim.finish(DONE)
    new = held(store)
    publish(new, 6, data=b"the successor's own epoch 6")
    for key, data in records:
        store.create(key, data)
    got = OutputFolder(store).choose(no_check)
    assert got is not None and got.record.place == CheckpointName(2, 6)
