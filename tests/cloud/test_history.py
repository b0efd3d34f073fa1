"""What the files of earlier attempts tell of interruptions."""

from pathlib import Path

import pytest

from cloud.attempts import attempts_in
from cloud.claim import claim
from cloud.history import NUM_ATTEMPTS, History, history
from cloud.names import attempt_key, life_key
from cloud.open import open_store
from cloud.records import Outcome
from cloud.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"), writable=True)


def attempt(store: Store, number: int, outcome: Outcome | None, beats: bytes) -> None:
    """An attempt as it is left behind; None: it was killed."""
    held = claim(store, timeout_seconds=0.2, beat_seconds=0.05)
    assert held.number == number
    if outcome is not None:
        held.finish(outcome)
    held.stop_beating()
    store.put(life_key(number), beats)


def test_killed_and_stopped_attempts_are_interruptions(store: Store) -> None:
    assert history(store, 1) == History(0, 0.0)
    attempt(store, 1, Outcome(outcome="done", seconds={"total": 100.0}), b"9\n")
    attempt(store, 2, Outcome(outcome="stopped", seconds={"total": 40.0}), b"4\n")
    attempt(store, 3, None, b"200\n")  # of 0.05 s each
    assert history(store, 4) == History(2, pytest.approx(150.0))


@pytest.mark.parametrize("beats", [b"", b"no number", b"-3", "\u0661".encode()])
def test_what_cannot_be_read_counts_for_nothing(store: Store, beats: bytes) -> None:
    attempt(store, 1, None, beats)
    assert history(store, 2) == History(1, 0.0)
    store.put(attempt_key(1), b"damaged")
    assert attempts_in(store).claims(1) == [None]
    assert history(store, 2) == History(0, 0.0)


def test_only_the_newest_attempts_are_asked_for(store: Store) -> None:
    reads: list[str] = []

    class Counted:
        can_create = True

        def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
            reads.append(key)
            raise FileNotFoundError(key)

        def list(self, prefix: str = "", start_after: str = "") -> list[object]:
            return []

    assert history(Counted(), 1000) == History(0, 0.0)  # type: ignore[arg-type]
    assert reads == [attempt_key(number) for number in range(1000 - NUM_ATTEMPTS, 1000)]
