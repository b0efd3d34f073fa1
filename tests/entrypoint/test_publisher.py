"""One item in flight, one that waits, whatever the store does; and what ends it."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from cloud.errors import ClaimLost, Unreachable
from entrypoint import publisher
from entrypoint.errors import Unpublished
from entrypoint.grace import Costs, Decision
from entrypoint.publisher import Publisher


@dataclass
class Place:
    """Where items go, while `error` is None; `given_up` and `warned` are what it was told."""

    error: Exception | None = None
    done: list[int] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def publish(self, item: int) -> None:
        self.tried.append(item)
        self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.done.append(item)

    def give_up(self, item: int, error: Exception) -> Unpublished:
        self.given_up.append(item)
        return Unpublished(f"{error}; {item} is kept")

    def publisher(self, limit_seconds: float = 60, **more: Any) -> Publisher[int]:
        return Publisher(
            self.publish,
            self.give_up,
            lambda error: self.warned.append(str(error)),
            limit_seconds=limit_seconds,
            **more,
        )


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(publisher, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "HICCUP_SECONDS", 0.2)
    one = Place()
    one.gate.set()
    return one


def test_everything_is_published_in_order_and_memory_is_used_again(place: Place) -> None:
    one = place.publisher()
    for number in range(5):
        assert one.room() in (None, *range(number))
        one.offer(number)
    one.drain()
    assert place.done == [0, 1, 2, 3, 4]
    assert one.room() in range(5), "the copy of one that is published"


def test_while_the_store_works_an_item_waits_for_room_and_none_is_dropped(place: Place) -> None:
    place.gate.clear()
    one = place.publisher()
    for number in (1, 2):
        assert one.room() is None
        one.offer(number)
    threading.Timer(0.3, place.gate.set).start()
    started = time.monotonic()
    assert one.room() in (1, 2)
    assert time.monotonic() - started > 0.2
    one.offer(3)
    one.drain()
    assert place.done == [1, 2, 3]


def test_one_by_one_an_item_waits_until_the_one_before_is_through(place: Place) -> None:
    place.gate.clear()
    one = place.publisher(one_by_one=True)
    assert one.room() is None
    one.offer(1)
    threading.Timer(0.3, place.gate.set).start()
    started = time.monotonic()
    assert one.room() == 1, "its memory, the only one there is"
    assert time.monotonic() - started > 0.2 and place.done == [1]
    place.error = Unreachable("no answer")
    for number in (2, 3, 4):  # a store that fails holds nobody up
        one.room()
        one.offer(number)
        time.sleep(0.3)
    place.error = None
    one.drain()
    assert place.done == [1, 4]


def test_while_it_fails_only_the_newest_is_kept_and_at_most_two_exist(place: Place) -> None:
    place.error = Unreachable("no answer")
    one = place.publisher()
    owners = 0
    for number in range(1, 12):
        owners += one.room() is None  # who gets no earlier copy makes a new one
        one.offer(number)
        time.sleep(0.06)
    assert owners <= 2
    assert len(place.warned) == 1 and place.done == []
    place.error = None
    one.drain()
    assert place.done[-1] == 11
    assert not one.has_failed


def test_it_is_given_up_after_the_limit_with_the_newest(place: Place) -> None:
    place.error = Unreachable("no answer")
    one = place.publisher(limit_seconds=0.4)
    one.offer(1)
    time.sleep(0.3)
    one.room()
    one.offer(2)
    with pytest.raises(Unpublished, match="no answer; 2 is kept"):
        one.drain()
    assert place.given_up == [2]
    assert 2 <= len(place.tried) <= 10, "with pauses between"
    one.hurry(0)
    one.offer(3)
    with pytest.raises(Unpublished, match="3 is kept"):
        one.drain()
    assert place.tried.count(3) == 1


def test_what_cannot_mend_ends_it_at_once(place: Place) -> None:
    place.error = ClaimLost("attempt 2 took over")
    one = place.publisher()
    one.offer(1)
    with pytest.raises(ClaimLost):
        one.drain()
    assert (place.tried, place.given_up) == ([1], [])


def test_a_stop_shortens_pauses_and_patience(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(publisher, "HURRIED_PAUSE_SECONDS", 0.1)
    place.error = Unreachable("no answer")
    ends: list[float] = []
    one = place.publisher(limit_seconds=600, seconds_left=lambda: ends[0] - time.monotonic() if ends else float("inf"))
    one.offer(1)
    time.sleep(0.2)
    ends.append(time.monotonic() + 0.5)
    with pytest.raises(Unpublished):
        one.drain()
    assert len(place.tried) >= 3


class Clock:
    """Time that goes on by work and by sleep alone; the processor's, as the real one, is each thread's own."""

    def __init__(self) -> None:
        self.now = self.slept = 0.0
        self.own = threading.local()

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return float(getattr(self.own, "seconds", 0.0))

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.own.seconds = self.thread_time() + seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.mark.parametrize("who_hurries", ["nobody", "who waits", "a stop"])
def test_every_item_rests_between_pieces_unless_it_is_hurried_and_rests_are_no_work(
    monkeypatch: pytest.MonkeyPatch, who_hurries: str
) -> None:
    clock = Clock()
    monkeypatch.setattr(publisher, "time", clock)
    worked: list[float | None] = []

    def publish(_: int) -> None:
        deadline = time.monotonic() + 10
        while who_hurries == "who waits" and not one._is_awaited:
            assert time.monotonic() < deadline
        for _ in range(800):
            clock.work(publisher.BURST_SECONDS / 2)
            one.rest()
        worked.append(one.seconds_in_flight)

    one = Publisher(
        publish, lambda _, error: error, lambda _: None, limit_seconds=60,
        seconds_left=lambda: 60 if who_hurries == "a stop" else float("inf"),
    )  # fmt: skip
    for number in range(2):  # a thread each
        one.offer(number)
        while not one.is_idle:
            if who_hurries == "who waits":
                one.drain()
            time.sleep(0.001)
    assert worked == [pytest.approx(400 * publisher.BURST_SECONDS)] * 2
    most = publisher.MAX_REST_SECONDS + 400 * publisher.BURST_SECONDS
    a_rest = publisher.REST_SECONDS
    assert clock.slept == pytest.approx(2 * most, abs=3 * a_rest) if who_hurries == "nobody" else clock.slept == 0


def test_what_waits_can_be_dropped_and_what_is_in_flight_ends(place: Place) -> None:
    place.gate.clear()
    one = place.publisher()
    for number in (1, 2):
        one.room()
        one.offer(number)
    while one.seconds_in_flight is None:
        time.sleep(0.01)
    assert one.num_waiting == 1
    one.drop_waiting()
    assert one.num_waiting == 0
    place.gate.set()
    one.drain()
    assert place.done == [1]


@pytest.mark.parametrize(
    ("copy", "publish", "left", "in_flight", "num_waiting", "decision"),
    [
        (None, None, 0.1, None, 0, Decision.NEW),  # nothing is known: it costs nothing to try
        (1.0, 5.0, float("inf"), None, 0, Decision.NEW),
        (1.0, 5.0, 8.0, None, 0, Decision.NEW),
        (1.0, 5.0, 7.0, None, 0, Decision.OLDER),
        (1.0, 5.0, 9.0, 4.0, 0, Decision.FLIGHT),  # 2 s for the one in flight, 7.2 s for a new one
        (1.0, 5.0, 10.0, 4.0, 0, Decision.NEW),
        (1.0, 5.0, 1.0, 4.0, 0, Decision.OLDER),
        (1.0, 5.0, 1.0, 30.0, 0, Decision.FLIGHT),  # it should be through any moment
        (1.0, 5.0, 15.0, 4.0, 1, Decision.WAITING),  # 2 s, 6 s for the one that waits, 7.2 s for a new one
        (1.0, 5.0, 15.5, 4.0, 1, Decision.NEW),
        (1.0, 5.0, 7.0, 4.0, 1, Decision.FLIGHT),
        (1.0, 5.0, 1.0, 4.0, 1, Decision.OLDER),
        (1.0, 5.0, 7.0, None, 1, Decision.WAITING),  # offered, and not yet taken up
        (1.0, 5.0, 5.0, None, 1, Decision.OLDER),
    ],
)
def test_a_stop_decides_by_measured_times(
    copy: float | None,
    publish: float | None,
    left: float,
    in_flight: float | None,
    num_waiting: int,
    decision: Decision,
) -> None:
    assert Costs(copy, publish).decide(left, in_flight, num_waiting) is decision


@pytest.mark.parametrize(
    ("left", "in_flight", "num_waiting", "decision"),
    [
        (0.1, None, 0, Decision.NEW),  # all is published
        (3.0, 4.0, 0, Decision.NEW),
        (1.0, 4.0, 0, Decision.OLDER),
        (9.0, 4.0, 1, Decision.NEW),
        (7.0, 4.0, 1, Decision.FLIGHT),
        (1.0, 4.0, 1, Decision.OLDER),
    ],
)
def test_what_was_offered_before_the_stop_may_be_too_late_as_well(
    left: float, in_flight: float | None, num_waiting: int, decision: Decision
) -> None:
    assert Costs(1.0, 5.0).decide(left, in_flight, num_waiting, is_new=False) is decision


def test_a_publication_tried_again_tells_no_shorter_time() -> None:
    costs = Costs()
    costs.published(0.1, again=True)
    assert costs.publish_seconds is None, "its upload may have been done before"
    costs.published(5.0, again=False)
    costs.published(0.1, again=True)
    assert costs.publish_seconds == 5.0
    costs.published(6.0, again=True)
    assert costs.publish_seconds == 6.0
    costs.published(4.0, again=False)
    assert costs.publish_seconds == 4.0
