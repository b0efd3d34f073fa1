"""The whole folder is looked at: what is damaged is named, what a running job removes meanwhile is not damage."""

from collections.abc import Callable

import pytest

from cloud.audit import Audit
from cloud.errors import Unreachable
from cloud.findings import ALARM, GONE, LEFT_OVER, NOT_OURS, OK, RUNNING, Finding
from cloud.folder import OutputFolder
from cloud.records import Record
from cloud.sealed import seal
from cloud.store import Store
from tests.cloud.folders import DONE, attempts, held, new_folder, publish
from tests.cloud.wrappers import Failing, Far, Noisy, Wrapped, flipped

Bytes = Callable[[bytes], bytes]


def no_check() -> None:
    pass


@pytest.fixture(params=["local", "far local", "memory"])
def store(request: pytest.FixtureRequest) -> Store:
    return new_folder(request.param, request)


def states(store: Store) -> dict[str, str]:
    return {one.key: one.state for one in Audit(store, no_check).run()}


def bad(store: Store) -> dict[str, str]:
    return {one.key: f"{one.state}: {one.detail}" for one in Audit(store, no_check).run() if one.is_bad}


def test_every_file_of_a_good_folder_is_named(store: Store) -> None:
    attempts(store, 1, 2)
    publish(held(store), 3)
    audit = Audit(store, no_check)
    assert {one.key: one.state for one in audit.run()} == {
        "ckpt_3-a3": OK,
        "ckpt_2-a2": OK,
        "ckpt_1-a1": OK,
        "ledger/round-0001-a1.jsonl.zst": OK,
        "ledger/round-0001-a2.jsonl.zst": OK,
        "ledger/round-0001-a3.jsonl.zst": OK,
        "attempts/000001.json": OK,
        "attempts/000002.json": OK,
        "attempts/000003.json": RUNNING,
    }
    assert [record.name for record in audit.whole] == ["ckpt_3-a3", "ckpt_2-a2", "ckpt_1-a1"]
    assert audit.lost == set()


@pytest.mark.parametrize(
    ("key", "change", "what"),
    [
        ("ckpt_2-a2.pth", flipped, "damaged: ckpt_2-a2.pth: digest of chunk 1 differs: damaged"),
        ("ckpt_2-a2.pth", lambda data: data[:-1], "damaged: ckpt_2-a2.pth: "),
        ("ckpt_2-a2.pth", None, "missing: ckpt_2-a2.pth: no object"),
        ("ckpt_2-a2.json", flipped, "damaged: ckpt_2-a2.json: its digest differs: damaged"),
        ("ckpt_2-a2.json", lambda data: data[:-1], "damaged: ckpt_2-a2.json: does not end with its digest"),
        ("ledger/round-0001-a2.jsonl.zst", flipped, "damaged: ledger/round-0001-a2.jsonl.zst: digest of chunk 1"),
        ("ledger/round-0001-a2.jsonl.zst", None, "missing: no object; named by ckpt_2-a2"),
        ("attempts/000002.json", flipped, "damaged: attempts/000002.json: its digest differs: damaged"),
        ("attempts/000002.life", flipped, ""),
        ("attempts/000002.life", lambda data: b"x", "damaged: attempts/000002.life: no counter"),
        ("metrics/000002.jsonl", lambda _: b'{"attempt": 2}', "damaged: metrics/000002.jsonl: the last line has"),
        ("metrics/000002.jsonl", lambda _: b'{"attempt": 1}\n', "damaged: metrics/000002.jsonl: line 1 is not what"),
        ("metrics/000002.jsonl", lambda _: b'{"attempt": 2\n', "damaged: metrics/000002.jsonl line 1: no JSON"),
        ("model/config.json", lambda _: b"{}", "damaged: model/config.json: its digest differs: damaged"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_and_how(store: Store, key: str, change: Bytes | None, what: str) -> None:
    attempts(store, 1, 2)
    store.put("attempts/000002.life", b"1234\n")
    if change is None:
        store.delete(key)
    else:
        there = key in {entry.key for entry in store.list()}
        store.put(key, change(store.read(key) if there else b""))
    found = bad(store)
    name = key.rpartition(".")[0] if key.startswith("ckpt") else key
    assert list(found) == ([name] if what else [])
    assert found.get(name, "").startswith(what)


def test_a_file_under_another_name_or_number_is_no_file_of_its_own(store: Store) -> None:
    attempts(store, 1, 2)
    for source, copy in (
        ("ckpt_1-a1.json", "ckpt_3-a2.json"),
        ("ckpt_1-a1.pth", "ckpt_3-a2.pth"),
        ("attempts/000001.json", "attempts/000003.json"),
        ("ledger/round-0001-a1.jsonl.zst", "ledger/round-0002-a2.jsonl.zst"),
        ("ckpt_1-a1.pth", "ckpt_7.pth"),
        ("ckpt_1-a1.pth", "ckpt_1-a1 (copy).pth"),
    ):
        store.put(copy, store.read(source))
    assert bad(store) == {
        "ckpt_3-a2": "damaged: ckpt_3-a2.json: the record of ckpt_1-a1",
        "attempts/000003.json": "damaged: the claim of attempt 1",
    }
    found = states(store)
    assert found["ledger/round-0002-a2.jsonl.zst"] == LEFT_OVER
    assert found["ckpt_7.pth"] == found["ckpt_1-a1 (copy).pth"] == NOT_OURS


def test_leftovers_and_gaps_are_named_and_no_damage(store: Store) -> None:
    attempts(store, 1, 2, 3, 4)
    for key in ("attempts/000001.json", "attempts/000003.json", "ckpt_2-a2.json"):
        store.delete(key)
    found = states(store)
    assert found["ckpt_2-a2.pth"] == LEFT_OVER and found["ledger/round-0001-a2.jsonl.zst"] == LEFT_OVER
    assert found["attempts/000001.json"] == found["attempts/000003.json"] == GONE
    assert bad(store) == {}


def test_what_a_running_job_prunes_meanwhile_is_no_damage(store: Store) -> None:
    attempts(store, 1, 2)

    class Pruning(Wrapped):
        """The first checkpoint goes while its object is looked for: its record first, as pruning does it."""

        def _prune(self) -> None:
            for key in ("ckpt_1-a1.json", "ckpt_1-a1.pth", "ledger/round-0001-a1.jsonl.zst"):
                self.inner.delete(key)

        def local_path(self, key: str) -> object:
            if key == "ckpt_1-a1.pth":
                self._prune()
            return super().local_path(key)

    found = states(Pruning(store))
    assert found == {
        "ckpt_2-a2": OK,
        "ledger/round-0001-a2.jsonl.zst": OK,
        "attempts/000001.json": OK,
        "attempts/000002.json": OK,
    }


def test_a_byte_that_was_wrong_once_is_read_again(store: Store) -> None:
    attempts(store, 1)
    noisy = {"ckpt_1-a1.json", "ckpt_1-a1.pth", "ledger/round-0001-a1.jsonl.zst", "attempts/000001.json"}

    assert bad(Noisy(store, noisy)) == {}
    assert not noisy


def test_a_store_that_fails_is_no_damage(store: Store) -> None:
    attempts(store, 1)
    with pytest.raises(Unreachable):
        list(
            Audit(Failing(Far(store), "read", lambda key: key == "ckpt_1-a1.pth", after=False, times=9), no_check).run()
        )


def test_a_network_that_did_not_change_is_an_alarm(store: Store) -> None:
    folder = held(store)
    for epoch in (1, 2):
        record = publish(folder, epoch)
        told = record.model_copy(update={"net_sha256": "same", "learning_rate": 0.1})
        store.put(record.place.record_key, seal(told))
    (alarm,) = (one for one in Audit(store, no_check).run() if one.is_bad)
    assert (alarm.key, alarm.state) == ("ckpt_2-a1", ALARM)
    assert alarm.detail.startswith("the network is that of ckpt_1-a1, to the bit, although 100 steps were taken")


def test_a_deep_check_sees_whole_checkpoints_only(store: Store) -> None:
    attempts(store, 1, 2, 3)
    store.put("ckpt_3-a3.pth", flipped(store.read("ckpt_3-a3.pth")))
    seen: list[str] = []

    def deep(record: Record) -> None:
        seen.append(record.name)
        if record.epoch == 1:
            raise FileNotFoundError("pruned")

    found = {one.key: one for one in Audit(store, no_check, deep).run()}
    assert seen == ["ckpt_2-a2", "ckpt_1-a1"]
    assert found["ckpt_2-a2"] == Finding("ckpt_2-a2", OK, "epoch 2, step 200, round 1: 16 bytes, loaded")
    assert found["ckpt_1-a1"].detail.endswith("pruned before it was loaded")


def test_a_stop_ends_it(store: Store) -> None:
    attempts(store, 1)

    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Audit(store, check).run())
    assert [record.name for record in OutputFolder(store).records()] == ["ckpt_1-a1"]


def test_the_claim_of_a_killed_attempt_is_not_damage(store: Store) -> None:
    one = held(store)
    publish(one, 1)
    assert states(store)["attempts/000001.json"] == RUNNING
    one.claim.finish(DONE)
    assert states(store)["attempts/000001.json"] == OK
