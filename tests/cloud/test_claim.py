"""One attempt holds the folder, whatever the store answers and whoever is paused."""

import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud.claim import Claim, claim
from cloud.errors import ClaimHeld, ClaimLost, Damaged, Unreachable
from cloud.host import is_gone, this_host
from cloud.names import attempt_key, life_key
from cloud.open import open_store
from cloud.records import ClaimFile, Host, Outcome
from cloud.sealed import MAX_RECORD_BYTES, seal
from cloud.store import Store
from tests.cloud.folders import DONE, Time, new_folder
from tests.cloud.wrappers import Cutting, Doubling, Failing, PutOnly, Wrapped

ELSEWHERE = Host(boot_id="another", pid_namespace="pid:[1]", pid=1, start_ticks=1, name="far")
CLAIMS = "attempts/"


@pytest.fixture(params=["local", "memory", "s3", "put-only local", "put-only memory", "put-only s3"])
def store(request: pytest.FixtureRequest) -> Store:
    return new_folder(request.param, request)


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"), writable=True)


@pytest.fixture
def ended() -> Iterator[Callable[[Claim], Claim]]:
    """Ends the threads of the claims that it is told about."""
    claims: list[Claim] = []

    def later(one: Claim) -> Claim:
        claims.append(one)
        return one

    yield later
    for one in claims:
        one.stop_beating()


def silent(store: Store, number: int, host: Host = ELSEWHERE, nonce: str = "") -> None:
    """An attempt that was killed on another machine."""
    file = ClaimFile(attempt=number, nonce=nonce or "x", host=host, took_over=None, beat_seconds=5)
    store.put(attempt_key(number, nonce), seal(file))


def written(store: Store, number: int) -> dict[str, object]:
    keys = [entry.key for entry in store.list(f"attempts/{number:06d}") if entry.key.endswith(".json")]
    assert len(keys) == 1
    return json.loads(store.read(keys[0]))


def test_the_first_attempt_is_1_and_gives_signs_of_life(store: Store, ended: Callable[[Claim], Claim]) -> None:
    one = ended(claim(store, beat_seconds=0.02))
    assert one.number == 1
    one.check()
    file = written(store, 1)
    assert file["attempt"] == 1 and file["took_over"] is None and file["host"]["pid"] == os.getpid()
    seen = set()
    while len(seen) < 3:
        time.sleep(0.02)
        seen |= {entry.version for entry in store.list(life_key(1))}


def test_after_an_outcome_the_next_one_does_not_wait(store: Store) -> None:
    for number in (1, 2, 3):
        one = claim(store, sleep=lambda seconds: pytest.fail("waited"))
        assert one.number == number
        one.finish(Outcome(outcome="nothing_new", exit_code=0, epoch=3, appended_shards=("a",)))
        file = written(store, number)
        assert file["outcome"] == "nothing_new" and file["appended_shards"] == ["a"] and file["took_over"] is None
    beats = store.read(life_key(3))
    time.sleep(0.1)
    assert store.read(life_key(3)) == beats


def test_of_several_outcomes_the_first_that_is_written_stays(local: Store) -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow(Wrapped):
        def put(self, key: str, data: bytes) -> None:
            if key == attempt_key(1):
                begun.set()
                assert go.wait(10)
            super().put(key, data)

    one = claim(Failing(Slow(local), "put", lambda key: key == attempt_key(1), after=False))
    with pytest.raises(Unreachable):
        one.finish(DONE)  # an outcome that never arrived is none
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.finish, Outcome(outcome="stopped", exit_code=143))
        assert begun.wait(10)
        second = pool.submit(one.finish, DONE)
        go.set()
        first.result(), second.result()
    assert json.loads(local.read(attempt_key(1)))["outcome"] == "stopped"


def test_a_live_holder_is_named_and_left_alone(store: Store, ended: Callable[[Claim], Claim]) -> None:
    ended(claim(store, beat_seconds=0.05))
    told: list[str] = []
    with pytest.raises(ClaimHeld, match=rf"attempt 1 on {socket.gethostname()} holds .*; submit again later"):
        claim(store, beat_seconds=0.05, waiting=told.append)
    # A holder that gives a sign at once leaves nothing to wait for.
    assert len(told) <= 1 and all("attempt 1" in text for text in told)


def test_a_silent_holder_elsewhere_is_replaced_after_the_timeout_only(store: Store) -> None:
    silent(store, 1)
    time_ = Time()
    checks: list[float] = []
    one = claim(store, check=lambda: checks.append(time_.now), clock=time_.clock, sleep=time_.sleep)
    one.stop_beating()
    assert one.number == 2
    assert 60 <= time_.now - 1000 <= 63
    assert time_.longest <= 0.25 and len(checks) >= 240
    assert written(store, 2)["took_over"] == {"attempt": 1, "reason": "no sign of life for 60 s"}


def test_a_holder_that_wakes_up_while_another_waits_keeps_its_place(store: Store) -> None:
    silent(store, 1)
    time_ = Time()

    def sleep(seconds: float) -> None:
        time_.sleep(seconds)
        if time_.now > 1057:
            store.put(life_key(1), b"%f" % time_.now)

    with pytest.raises(ClaimHeld):
        claim(store, clock=time_.clock, sleep=sleep)


def test_an_outcome_written_while_another_waits_ends_the_waiting(store: Store) -> None:
    one = claim(store, beat_seconds=1000)
    one.stop_beating()
    time_ = Time()

    def sleep(seconds: float) -> None:
        time_.sleep(seconds)
        if time_.now > 1010:
            one.finish(DONE)

    two = claim(store, clock=time_.clock, sleep=sleep)
    two.stop_beating()
    assert two.number == 2 and time_.now < 1020


def test_a_stop_ends_the_waiting_at_once(store: Store) -> None:
    silent(store, 1)
    time_ = Time()

    def check() -> None:
        if time_.now >= 1001:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        claim(store, check=check, clock=time_.clock, sleep=time_.sleep)
    assert time_.now <= 1001.25
    assert [entry.key for entry in store.list(CLAIMS)] == [attempt_key(1)]


def test_a_paused_holder_finds_out_at_its_next_check(store: Store) -> None:
    one = claim(store)
    one.stop_beating()
    time_ = Time()
    two = claim(store, clock=time_.clock, sleep=time_.sleep)
    two.stop_beating()
    with pytest.raises(ClaimLost, match="attempt 2 took"):
        one.check()
    two.check()
    one.finish(Outcome(outcome="failed", exit_code=75))
    two.check()
    assert written(store, 2).get("outcome") is None


HOSTILE = {
    "cut": b'{"attempt": 1',
    "empty": b"",
    "noise": bytes(range(256)) * 100,
    "too large": b"{" + b" " * MAX_RECORD_BYTES + b"}",
    "nested": b"[" * 100_000,
    "another schema": seal({"attempt": "../../etc", "nonce": None, "host": [1], "extra": {}}),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_claim_file_that_cannot_be_read_counts_as_a_holder(local: Store, content: bytes) -> None:
    local.put(attempt_key(1), content)
    time_ = Time()
    one = claim(local, clock=time_.clock, sleep=time_.sleep)
    one.stop_beating()
    assert one.number == 2 and time_.now >= 1060


def test_a_claim_file_that_was_removed_does_not_free_its_number(store: Store) -> None:
    claim(store).finish(DONE)
    store.put("ckpt_3-a8.pth", b"state")
    one = claim(store, sleep=lambda seconds: pytest.fail("waited"))
    one.stop_beating()
    assert one.number == 9


@pytest.mark.parametrize("key", ["ckpt_20-a50.pth", "metrics/000050.jsonl", "ledger/round-0001-a50.jsonl.zst"])
def test_a_stray_file_with_a_higher_number_does_not_hide_who_is_alive(
    store: Store, key: str, ended: Callable[[Claim], Claim]
) -> None:
    one = ended(claim(store, beat_seconds=0.05))
    store.put(key, b"copied from elsewhere")
    with pytest.raises(ClaimHeld, match="attempt 1 on"):
        claim(store, beat_seconds=0.05)
    one.check()


def test_who_is_replaced_by_a_number_far_above_finds_out(store: Store) -> None:
    one = claim(store)
    one.stop_beating()
    store.put("ckpt_20-a50.pth", b"copied from elsewhere")
    time_ = Time()
    two = claim(store, clock=time_.clock, sleep=time_.sleep)
    two.stop_beating()
    assert two.number == 51 and time_.now >= 1060
    assert written(store, 51)["took_over"]["attempt"] == 1
    two.check()
    with pytest.raises(ClaimLost, match="attempt 51 took"):
        one.check()


@pytest.mark.parametrize(("number", "nonce"), [(2, ""), (3, "ab"), (1_000_000, "")])
def test_any_claim_with_a_higher_number_is_a_successor(store: Store, number: int, nonce: str) -> None:
    one = claim(store)
    one.stop_beating()
    silent(store, number, nonce=nonce)
    with pytest.raises(ClaimLost, match=f"attempt {number} took"):
        one.check()


def test_a_number_with_more_digits_is_higher_whatever_its_key_sorts_after(store: Store) -> None:
    store.put("ckpt_3-a999998.pth", b"state")
    one = claim(store)
    one.stop_beating()
    assert one.number == 999_999
    one.check()
    silent(store, 1_000_000)
    with pytest.raises(ClaimLost, match="attempt 1000000 took"):
        one.check()


def test_an_absurd_number_is_refused(local: Store) -> None:
    local.put(f"ckpt_3-a{10**15 - 1}.pth", b"state")
    with pytest.raises(Damaged, match="remove it"):
        claim(local)


def test_errors_of_the_store_are_neither_held_nor_lost(local: Store) -> None:
    store = Failing(local, "list", lambda prefix: prefix == CLAIMS, after=False)
    one = claim(store)
    one.stop_beating()
    with pytest.raises(Unreachable):
        one.check()
    one.check()


def test_missed_beats_do_not_end_the_sign_of_life(local: Store, ended: Callable[[Claim], Claim]) -> None:
    ended(claim(Failing(local, "put", lambda key: key.endswith(".life"), after=False, times=3), beat_seconds=0.01))
    while not list(local.list(life_key(1))):
        time.sleep(0.01)
    assert int(local.read(life_key(1))) > 3


@pytest.mark.parametrize("wrapped", [lambda s: s, PutOnly], ids=["create", "put only"])
def test_a_lost_answer_to_the_claim_is_settled_by_the_nonce(local: Store, wrapped: Callable[[Store], Store]) -> None:
    method = "put" if wrapped is PutOnly else "create"
    one = claim(wrapped(Failing(local, method, lambda key: key.endswith(".json"))))
    one.stop_beating()
    assert one.number == 1
    one.check()


@pytest.mark.parametrize("wrapped", [lambda s: s, PutOnly], ids=["create", "put only"])
def test_a_claim_that_never_arrived_is_an_error(local: Store, wrapped: Callable[[Store], Store]) -> None:
    method = "put" if wrapped is PutOnly else "create"
    with pytest.raises(Unreachable):
        claim(wrapped(Failing(local, method, lambda key: key.endswith(".json"), after=False)))
    assert not list(local.list())


def test_a_claim_that_is_read_back_cut_short_is_read_again(local: Store) -> None:
    time_ = Time()
    one = claim(Cutting(Doubling(local), lambda key: key.endswith(".json")), clock=time_.clock, sleep=time_.sleep)
    one.stop_beating()
    assert (one.number, time_.now) == (1, Time().now)  # not taken for somebody else's, and waited for


def test_a_lost_answer_that_another_claim_came_first_is_no_error(local: Store) -> None:
    """The create fails without an answer because somebody else's claim was there."""

    class Late(Wrapped):
        late = True

        def create(self, key: str, data: bytes) -> None:
            if not self.late:
                return super().create(key, data)
            self.late = False
            silent(self.inner, 1)
            raise Unreachable("no answer")

    time_ = Time()
    one = claim(Late(local), clock=time_.clock, sleep=time_.sleep)
    one.stop_beating()
    assert one.number == 2


def test_taken_by_nothing_means_to_look_again(local: Store) -> None:
    class Taken(Wrapped):
        num_taken = 3

        def create(self, key: str, data: bytes) -> None:
            self.num_taken -= 1
            if self.num_taken >= 0:
                raise FileExistsError(key)
            super().create(key, data)

    one = claim(Taken(local))
    one.stop_beating()
    assert one.number == 1


@pytest.mark.parametrize("wrapped", [lambda s: s, PutOnly], ids=["create", "put only"])
def test_a_request_that_arrives_twice_is_one_claim(local: Store, wrapped: Callable[[Store], Store]) -> None:
    store = wrapped(Doubling(local))
    one = claim(store)
    one.check()
    one.finish(DONE)
    assert one.number == 1
    assert claim_once(store) == 2


def claim_once(store: Store) -> int | None:
    """The number of a claim that is left alive without a sign of life, or None when it is held."""
    try:
        one = claim(store, beat_seconds=0.05)
    except ClaimHeld:
        return None
    return one.number


@pytest.mark.parametrize("round_", range(3))
def test_of_many_threads_exactly_one_wins(store: Store, round_: int) -> None:
    slow = PutOnly(store.inner, 0.01) if isinstance(store, PutOnly) else store
    started = threading.Barrier(8)

    def submit(_: int) -> int | None:
        started.wait()
        return claim_once(slow)

    with ThreadPoolExecutor(8) as pool:
        won = [number for number in pool.map(submit, range(8)) if number is not None]
    assert len(won) == 1


def test_two_never_hold_a_store_without_create_at_a_time(local: Store) -> None:
    """Each winner looks whether it holds, says that it does, leaves, and the others go on."""
    store = PutOnly(local, 0.004)
    holding = threading.Lock()
    numbers: list[int] = []

    def submit(_: int) -> None:
        for _ in range(4):
            try:
                one = claim(store, beat_seconds=0.02)
            except ClaimHeld:
                continue
            assert holding.acquire(blocking=False), "two holders"
            numbers.append(one.number)
            time.sleep(0.01)
            one.check()
            holding.release()
            one.finish(DONE)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(submit, range(6)))
    assert len(numbers) >= 2 and len(set(numbers)) == len(numbers)


def test_a_silent_candidate_is_passed_after_the_timeout_and_never_tried_again(local: Store) -> None:
    store = PutOnly(local)
    claim(store).finish(DONE)
    silent(store, 2, nonce="ab")
    time_ = Time()
    one = claim(store, clock=time_.clock, sleep=time_.sleep)
    one.stop_beating()
    assert one.number == 3 and time_.now >= 1060


def test_who_was_stopped_before_its_listing_withdraws(local: Store) -> None:
    """B puts its file for 1 while A holds 1; B sees A, takes its own file away and waits for A."""

    class Late(PutOnly):
        """Somebody else's claim arrives between this one's first look and its put."""

        late = True

        def put(self, key: str, data: bytes) -> None:
            if self.late:
                Late.late = False
                silent(self.inner, 1, nonce="aa")
            super().put(key, data)

    time_ = Time()
    one = claim(Late(local), clock=time_.clock, sleep=time_.sleep)
    one.stop_beating()
    assert one.number == 2
    assert [entry.key for entry in local.list("attempts/000001")] == [attempt_key(1, "aa")]


def hold(folder: str, started: object, results: "multiprocessing.Queue[int | None]") -> None:
    """In a process of its own: claim when the others do, say the number, stay alive."""
    started.wait()
    number = claim_once(open_store(folder, writable=True))
    results.put(number)
    time.sleep(60 if number else 0)


def test_of_many_processes_exactly_one_wins_and_a_killed_one_is_replaced_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    started, results = spawn.Barrier(5), spawn.Queue()
    folder = str(tmp_path / "run")
    processes = [spawn.Process(target=hold, args=(folder, started, results), daemon=True) for _ in range(5)]
    for process in processes:
        process.start()
    won = [number for number in (results.get(timeout=60) for _ in processes) if number is not None]
    assert won == [1]
    holder = json.loads(open_store(folder).read(attempt_key(1)))["host"]["pid"]
    os.kill(holder, signal.SIGKILL)
    # Not collected yet, it is a zombie, as in a container without an init process.
    deadline = time.monotonic() + 10
    while (Path("/proc") / str(holder) / "stat").read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    one = claim(open_store(folder, writable=True), sleep=lambda seconds: pytest.fail("waited"))
    one.stop_beating()
    assert one.number == 2
    file = written(open_store(folder), 2)
    assert file["took_over"] == {"attempt": 1, "reason": "its process on this machine is gone"}
    for process in processes:
        process.join(10)


def test_the_same_machine_is_the_same_boot_and_pid_namespace() -> None:
    here = this_host()
    assert not is_gone(here)
    gone = here.model_copy(update={"start_ticks": (here.start_ticks or 0) + 1})
    assert is_gone(gone)
    for other in ({"boot_id": "x"}, {"pid_namespace": "pid:[1]"}, {"boot_id": None}, {"start_ticks": None}):
        assert not is_gone(gone.model_copy(update=other))


def test_a_host_that_tells_nothing_is_never_the_same_machine(local: Store) -> None:
    silent(local, 1, Host(boot_id=None, pid_namespace=None, pid=1, start_ticks=None, name="sandbox"))
    time_ = Time()
    claim(local, clock=time_.clock, sleep=time_.sleep).stop_beating()
    assert time_.now >= 1060


def test_a_wrapper_sees_all_that_a_claim_asks_of_a_store(local: Store) -> None:
    """Later tests kill at each operation: none may go past the wrapper."""

    class Counting(Wrapped):
        def __init__(self, inner: Store) -> None:
            super().__init__(inner)
            self.operations: list[str] = []

        def list(self, prefix: str = "", start_after: str = "") -> Iterator[object]:
            self.operations.append("list")
            return super().list(prefix, start_after)

        def create(self, key: str, data: bytes) -> None:
            self.operations.append(f"create {key}")
            super().create(key, data)

    store = Counting(local)
    claim(store).finish(DONE)
    assert store.operations == ["list", "create attempts/000001.json"]
