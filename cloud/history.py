"""How long the attempts at an output folder worked, and how many of them were interrupted, by a few small files."""

from typing import NamedTuple

from cloud.attempts import Attempts, attempts_in, life
from cloud.records import AttemptFile
from cloud.store import Store

NUM_ATTEMPTS = 12
"""So many attempts are looked at, the newest: what machines did long ago tells little of today's."""


class History(NamedTuple):
    """Attempts that were killed or stopped, and the seconds that all of them worked."""

    num_interrupted: float
    seconds: float


def history(store: Store, before: int) -> History:
    """Of the attempts before the one with this number. A file that cannot be read counts for nothing."""
    attempts = attempts_in(store)
    found = [_lived(store, attempts, number) for number in range(max(1, before - NUM_ATTEMPTS), before)]
    return History(sum(each.num_interrupted for each in found), sum(each.seconds for each in found))


def _lived(store: Store, attempts: Attempts, number: int) -> History:
    file = next((file for file in attempts.claims(number) if file is not None), None)
    if file is None:
        return History(0, 0.0)
    return History(int(file.outcome in (None, "stopped")), _seconds(store, file))


def _seconds(store: Store, file: AttemptFile) -> float:
    """As its outcome says; without one, as often as it gave a sign of life: no clock is needed for that."""
    if file.outcome is not None:
        return file.seconds.get("total", 0.0)
    beats = (life(store, file.attempt) or b"").strip()
    return int(beats) * file.beat_seconds if beats.isdigit() else 0.0
