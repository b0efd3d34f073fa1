"""Who gets the space: what is needed earlier; what goes: what is needed last."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.shelf import NOW, Job, Shelf, Wanted
from cloud.slot import Slot


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    slot = Slot(tmp_path, 30)
    yield Shelf(slot)
    slot.close()


def wanted(name: str, size: int = 10) -> Wanted:
    return Wanted(name, size, name * 64)


def bring(shelf: Shelf, job: Job | None) -> None:
    assert job is not None
    job.path.write_bytes(bytes(job.wanted.size))
    shelf.finish(job, job.wanted.sha256 or job.wanted.key * 64).num_pins -= 1


def there(shelf: Shelf) -> str:
    return "".join(sorted(digest[0] for digest in shelf.slot.contents))


def test_the_queue_is_taken_in_order_as_far_as_it_fits(shelf: Shelf) -> None:
    shelf.want_ahead([wanted(name) for name in "bacbd"])
    for name in "bac":
        job = shelf.begin_ahead()
        assert job is not None
        assert job.wanted.key == name
        bring(shelf, job)
    assert shelf.begin_ahead() is None
    assert there(shelf) == "abc"


def test_least_recently_used_goes_first(shelf: Shelf) -> None:
    for name in "abc":
        bring(shelf, shelf.begin(wanted(name), NOW))
    assert shelf.ready(wanted("a")) is not None
    bring(shelf, shelf.begin(wanted("d"), NOW))
    assert there(shelf) == "acd"


def test_what_is_wanted_last_goes_after_what_nobody_wants(shelf: Shelf) -> None:
    for name in "abc":
        bring(shelf, shelf.begin(wanted(name), NOW))
    shelf.want_ahead([wanted("b"), wanted("a")])
    bring(shelf, shelf.begin(wanted("d"), NOW))
    assert there(shelf) == "abd"
    pinned = shelf.ready(wanted("d"))
    assert pinned is not None
    pinned.num_pins += 1
    bring(shelf, shelf.begin(wanted("e"), NOW))
    assert there(shelf) == "bde"


def test_what_is_ahead_never_drives_out_what_is_needed_earlier(shelf: Shelf) -> None:
    shelf.want_ahead([wanted(name) for name in "abcd"])
    for _ in "abc":
        bring(shelf, shelf.begin_ahead())
    assert shelf.begin_ahead() is None
    shelf.want_ahead([wanted(name) for name in "dcba"])
    bring(shelf, shelf.begin_ahead())
    assert there(shelf) == "bcd"
    assert shelf.begin_ahead() is None


def test_what_was_driven_out_is_fetched_again_in_its_turn(shelf: Shelf) -> None:
    shelf.want_ahead([wanted(name) for name in "abc"])
    for _ in "abc":
        bring(shelf, shelf.begin_ahead())
    job = shelf.begin(wanted("x"), NOW)
    bring(shelf, job)
    assert there(shelf) == "abx"
    bring(shelf, shelf.begin_ahead())
    assert there(shelf) == "abc"


def test_the_last_needed_fetch_is_cancelled_first(shelf: Shelf) -> None:
    shelf.want_ahead([wanted(name) for name in "abc"])
    a, b, c = (shelf.begin_ahead() for _ in "abc")
    assert a is not None and b is not None and c is not None
    assert shelf.cancel_for(20) == 20
    assert [job.cancelled for job in (a, b, c)] == [False, True, True]
    a.place = NOW
    assert shelf.cancel_for(30) == 20
    shelf.give_up(b)
    shelf.give_up(c)
    assert shelf.begin_ahead().wanted.key == "b"  # type: ignore[union-attr]


def test_a_failed_fetch_ahead_is_not_repeated(shelf: Shelf) -> None:
    shelf.want_ahead([wanted("a")])
    job = shelf.begin_ahead()
    assert job is not None
    shelf.give_up(job)
    assert shelf.begin_ahead() is None
    assert shelf.slot.free_bytes == 30


def test_content_found_out_meets_content_that_is_known(shelf: Shelf) -> None:
    bring(shelf, shelf.begin(Wanted("a", 10, None), NOW))
    known = shelf.ready(wanted("a"))
    assert known is not None
    assert shelf.ready(Wanted("a", 10, None)) is known
    assert shelf.ready(Wanted("copy", 10, "a" * 64)) is known
    assert shelf.ready(Wanted("a", 11, None)) is None


def test_what_does_not_fit_at_all_does_not_hold_up_the_queue(shelf: Shelf) -> None:
    shelf.want_ahead([wanted("a", 31), wanted("b")])
    job = shelf.begin_ahead()
    assert job is not None
    assert job.wanted.key == "b"
