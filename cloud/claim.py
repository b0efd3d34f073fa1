"""The exclusive right of one attempt to write an output folder, as in the claim protocol."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom

from cloud.attempts import Attempts, Numbers, attempts_in, life, numbers
from cloud.errors import ClaimHeld, ClaimLost, CloudError, Unreachable
from cloud.host import is_gone, this_host
from cloud.names import life_key
from cloud.records import AttemptFile, ClaimFile, Outcome, TookOver
from cloud.sealed import seal
from cloud.store import Store

MAX_TRIES = 12
POLL_SECONDS = 2.5
CHECK_SECONDS = 0.25


class Claim:
    """The claim that this process got; a thread writes its sign of life until `finish` or `stop_beating`."""

    def __init__(self, store: Store, key: str, claim: ClaimFile) -> None:
        self.number = claim.attempt
        self._store = store
        self._attempts = attempts_in(store)
        self._key = key
        self.file = claim
        """What the claim file said when it was created."""
        self._finishing = threading.Lock()
        self._is_finished = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="sign of life", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise ClaimLost when a later attempt took over. An error of the store is raised: it is not "held"."""
        is_there, successor = self._attempts.standing(self.number)
        if successor is not None:
            raise ClaimLost(
                f"attempt {successor} took {self._store.url} over while attempt {self.number} was silent; "
                "what it committed is kept: submit again later if this one was meant to go on"
            )
        if not is_there:
            raise Unreachable(
                f"{self._store.url}: the claim of attempt {self.number} is gone from it: emptied, or not mounted?"
            )

    def knows(self, claim: ClaimFile) -> bool:
        """Whether this is the claim of an attempt at the same folder."""
        return any(one is not None and one.nonce == claim.nonce for one in self._attempts.claims(claim.attempt))

    def finish(self, outcome: Outcome) -> None:
        """Write what the attempt did into its claim file, which frees the folder at once; the first outcome stays.

        Nobody else writes that key, so this needs no check, and also an attempt that lost the claim may say so.
        Several threads may call it: one that ends the process by force need not know how far another one is.
        """
        self.stop_beating()
        fields = dict(self.file) | dict(outcome.bounded())
        with self._finishing:
            if not self._is_finished:
                self._store.put(self._key, seal(AttemptFile(**fields)))
                self._is_finished = True

    def stop_beating(self) -> None:
        """End the sign of life. What hangs in the store meanwhile does not hold this up for long."""
        self._ended.set()
        self._thread.join(timeout=1.0)

    def _beat(self) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            # A missed beat costs the place at worst, and `check` tells: no reason to stop the training.
            with contextlib.suppress(CloudError, OSError):
                self._store.put(life_key(self.number), b"%d\n" % count)
            self._ended.wait(self.file.beat_seconds)


def claim(
    store: Store,
    *,
    beat_seconds: float = 5.0,
    timeout_seconds: float = 60.0,
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    waiting: Callable[[str], None] = lambda _: None,
) -> Claim:
    """Take the next number of the output folder, after waiting for a silent holder as long as it must.

    `check` is called at least every 0.25 s and may raise, to stop waiting; `waiting` is told once who holds the
    folder. What was read from the folder before this returned may be old: list it again.
    Raises ClaimHeld when another attempt is alive.
    """
    pace = _Pace(min(POLL_SECONDS, beat_seconds / 2), check, sleep)
    watch = _Watch(store, attempts_in(store), timeout_seconds, pace, clock, _once(waiting))
    for tries in range(MAX_TRIES):
        freed = watch.until_free(last := numbers(store))
        if freed is None:
            continue
        mine = ClaimFile(
            attempt=max(last) + 1,
            nonce=secrets.token_hex(16),
            host=this_host(),
            took_over=freed.took_over,
            beat_seconds=beat_seconds,
        )
        key = attempts_in(store).take(mine)
        if key is not None:
            return Claim(store, key, mine)
        if not store.can_create:
            # Of several that saw each other and withdrew one must come first. Python's generator may be seeded alike.
            pace.nap(SystemRandom().uniform(0, min(8.0, 0.25 * 2**tries)))
    raise ClaimHeld(f"{store.url} is being claimed by many submissions at once; submit again later")


@dataclass(frozen=True)
class _Pace:
    poll_seconds: float
    check: Callable[[], None]
    sleep: Callable[[float], None]

    def nap(self, seconds: float) -> None:
        """Sleep, asking often whether to stop."""
        while seconds > 0:
            self.check()
            self.sleep(min(seconds, CHECK_SECONDS))
            seconds -= CHECK_SECONDS
        self.check()


@dataclass(frozen=True)
class _Freed:
    took_over: TookOver | None


@dataclass(frozen=True)
class _Watch:
    """Looks at the last attempt that has a claim file until it is known to be over, or alive."""

    store: Store
    attempts: Attempts
    timeout_seconds: float
    pace: _Pace
    clock: Callable[[], float]
    waiting: Callable[[str], None]

    def until_free(self, last: Numbers) -> _Freed | None:
        """Wait until the next number may be taken; None when the numbers changed meanwhile. ClaimHeld when alive.

        Higher numbers on other keys are left by removed claim files or copied here: they tell nothing of who is alive.
        """
        number = last.claimed
        if number == 0:
            return _Freed(None)
        remembered, start = life(self.store, number), self.clock()
        while claims := self.attempts.claims(number):
            if (freed := _over(number, claims)) is not None:
                return freed
            holder = f"{_name(number, claims)} holds {self.store.url}"
            if life(self.store, number) != remembered:
                raise ClaimHeld(f"{holder}; submit again later")
            if self.attempts.standing(number).successor is not None:
                return None
            if self.clock() - start >= self._patience_seconds(claims):
                return _Freed(TookOver(attempt=number, reason=f"no sign of life for {self.clock() - start:.0f} s"))
            self.waiting(f"{holder}; waiting for its sign of life")
            self.pace.nap(self.pace.poll_seconds)
        return None

    def _patience_seconds(self, claims: list[AttemptFile | None]) -> float:
        """The timeout, unless the holder said that it gives signs of life even more seldom."""
        return max([self.timeout_seconds, *(1.5 * claim.beat_seconds for claim in claims if claim is not None)])


def _over(number: int, claims: list[AttemptFile | None]) -> _Freed | None:
    """Whether an attempt is certainly over. One that cannot be read is only over when it stays silent."""
    if any(claim is not None and claim.outcome is not None for claim in claims):
        return _Freed(None)
    if all(claim is not None and is_gone(claim.host) for claim in claims):
        return _Freed(TookOver(attempt=number, reason="its process on this machine is gone"))
    return None


def _name(number: int, claims: list[AttemptFile | None]) -> str:
    hosts = [claim.host.name for claim in claims if claim is not None]
    return f"attempt {number} on {hosts[0]}" if hosts else f"attempt {number}"


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    told: list[str] = []

    def tell_first(text: str) -> None:
        if not told:
            told.append(text)
            tell(text)

    return tell_first
