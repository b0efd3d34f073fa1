"""Repeating what got no answer: how often, how long, and what never."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cloud.errors import AccessDenied, Unreachable
from cloud.open import open_store
from cloud.retry import RetryingStore
from cloud.store import Entry, Store
from tests.cloud.wrappers import Failing, Wrapped


@dataclass
class Time:
    """A clock that only moves when somebody sleeps or works."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> Store:
    return open_store(f"memory://{request.node.name}")


def retrying(inner: Store, time: Time) -> RetryingStore:
    return RetryingStore(inner, 15.0, clock=time.clock, sleep=time.sleep)


class Dead(Wrapped):
    """Gives no answer, after `seconds`."""

    def __init__(self, inner: Store, time: Time, seconds: float) -> None:
        super().__init__(inner)
        self._time, self._seconds = time, seconds
        self.num_asked = 0

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self.num_asked += 1
        self._time.now += self._seconds
        raise Unreachable("no answer")


def test_an_answer_that_comes_late_is_an_answer(memory: Store, time: Time) -> None:
    memory.put("a", b"content")
    store = retrying(Failing(memory, "read", lambda key: True, times=4), time)
    assert store.read("a") == b"content"
    assert len(time.slept) == 4
    assert all(later > earlier * 0.9 for earlier, later in zip(time.slept, time.slept[1:], strict=False))


def test_a_server_that_refuses_at_once_is_asked_for_15_seconds(memory: Store, time: Time) -> None:
    dead = Dead(memory, time, 0.0)
    with pytest.raises(Unreachable):
        retrying(dead, time).read("a")
    assert 10 < time.now <= 15
    assert dead.num_asked > 5


@pytest.mark.parametrize(("seconds", "num_asked"), [(4.0, 3), (10.0, 1), (60.0, 1)])
def test_a_slow_failure_is_not_repeated_beyond_15_seconds(
    memory: Store, time: Time, seconds: float, num_asked: int
) -> None:
    dead = Dead(memory, time, seconds)
    with pytest.raises(Unreachable):
        retrying(dead, time).read("a")
    assert dead.num_asked == num_asked


def test_what_cannot_change_is_not_repeated(memory: Store, time: Time) -> None:
    class Refusing(Wrapped):
        def put(self, key: str, data: bytes) -> None:
            raise AccessDenied("no")

    store = retrying(Refusing(memory), time)
    with pytest.raises(AccessDenied):
        store.put("a", b"")
    with pytest.raises(FileNotFoundError):
        store.read("missing")
    assert time.slept == []


def test_a_create_whose_answer_was_lost_finds_its_own_object(memory: Store, time: Time) -> None:
    store = retrying(Failing(memory, "create", lambda key: True, after=True), time)
    with pytest.raises(FileExistsError):
        store.create("claim", b"mine")
    assert store.read("claim") == b"mine"


def test_a_create_that_was_lost_is_repeated(memory: Store, time: Time) -> None:
    store = retrying(Failing(memory, "create", lambda key: True, after=False), time)
    store.create("claim", b"mine")
    assert store.read("claim") == b"mine"


class Breaking(Wrapped):
    """A listing that breaks after every `num_entries`."""

    def __init__(self, inner: Store, time: Time, num_entries: int) -> None:
        super().__init__(inner)
        self._time, self._num_entries = time, num_entries

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        for i, entry in enumerate(self.inner.list(prefix, start_after)):
            if i == self._num_entries:
                self._time.now += 3
                raise Unreachable("broken")
            yield entry


def test_a_listing_that_breaks_goes_on_after_the_last_key(memory: Store, time: Time) -> None:
    expected = [f"a/{i:02}" for i in range(20)]
    for key in (*expected, "b"):
        memory.put(key, b"")
    store = retrying(Breaking(memory, time, 3), time)
    assert [entry.key for entry in store.list("a/")] == expected
    assert [entry.key for entry in store.list("a/", "a/07")] == expected[8:]


def test_a_listing_that_never_begins_ends(memory: Store, time: Time) -> None:
    memory.put("a", b"")
    with pytest.raises(Unreachable):
        list(retrying(Breaking(memory, time, 0), time).list())
    assert time.now <= 15


def test_the_rest_is_as_inside(memory: Store, time: Time) -> None:
    store = retrying(memory, time)
    with store.writer("a") as writer:
        writer.write(b"content")
    assert store.stat("a") == memory.stat("a")
    assert (store.url, store.can_create, store.local_path("a")) == (memory.url, True, None)
    store.delete("a")
    assert list(memory.list()) == []


def test_the_global_random_numbers_stay_those_of_the_task(memory: Store, time: Time) -> None:
    memory.put("a", b"content")
    state = random.getstate()
    assert retrying(Failing(memory, "read", lambda key: True, times=4), time).read("a") == b"content"
    assert len(time.slept) == 4
    assert random.getstate() == state
