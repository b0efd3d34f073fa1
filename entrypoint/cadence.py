"""When the next checkpoint within an epoch is due: by what a save costs, and by what an interruption would lose."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean, median

from cloud.history import History
from cloud.threads import in_background
from entrypoint.console import Console
from entrypoint.grace import Costs
from entrypoint.phrases import duration
from entrypoint.settings import JobConfig

MAX_SHARE = 0.01
"""Saving within an epoch takes no more of the time than this."""

LEAST_SECONDS = 10.0
"""However cheap a save is, none comes sooner: each is a few requests to the store."""

BEFORE = History(num_interrupted=1 / 24, seconds=3600.0)
"""What is assumed before anything was seen: as if an hour had been watched in which one a day is interrupted."""

NUM_COSTS, MIN_STEPS, MAX_STEPS = 5, 20, 200
MUCH, OUTLIER = 2.0, 10.0


@dataclass(frozen=True)
class Interval:
    """Seconds between two saves, and what decided on them."""

    seconds: float
    because: str


def balanced(cost: float, publishing: float, between: float, max_lost: float) -> Interval:
    """The interval that loses least, after Young (1974) and Daly (2006): sqrt(2 x cost x time between interruptions).

    All in seconds: what a save takes from the training, how long it is under way afterwards (what an interruption
    loses beside the interval), the mean time between interruptions, and what one may lose at most. That limit yields
    to MAX_SHARE, and a save never begins before the one before it is published.
    """
    limit = max(0.0, max_lost - publishing)
    candidates = [
        Interval(min(math.sqrt(2 * cost * between), limit), "what is lost and what saving takes balance"),
        Interval(min(LEAST_SECONDS, limit), "saving costs next to nothing"),
        Interval(cost / MAX_SHARE, f"saving takes no more than {MAX_SHARE:.0%} of the time"),
        Interval(publishing, "publishing takes that long"),
    ]
    chosen = max(candidates, key=lambda one: one.seconds)
    if chosen.seconds == limit:
        return Interval(limit, f"no more than --max_lost_seconds {max_lost:g} shall be lost")
    if chosen.seconds > limit:
        return Interval(chosen.seconds, f"{chosen.because}, which comes before --max_lost_seconds {max_lost:g}")
    return chosen


class Cadence:
    """Asked after each step. With `--save_every auto` it learns what saving costs from how long the steps take."""

    def __init__(
        self,
        config: JobConfig,
        costs: Costs,
        history: Callable[[], History],
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`history` is called in the background: what comes before this attempt is good to know, never needed."""
        self._config, self._costs, self._console, self._clock = config, costs, console, clock
        self._began = clock()
        self._saved_at: float | None = None
        self._is_auto = config.save_every == "auto" and config.save_every_seconds is None
        self._history = in_background(history, "history") if self._is_auto else None
        self._pace = _Pace(self._began)
        self._copies: deque[float] = deque(maxlen=NUM_COSTS)
        self._interval: Interval | None = None
        self._told: float | None = None

    def is_due(self, is_publishing: bool) -> bool:
        """Whether it is time to save; `is_publishing`: the last checkpoint is still under way."""
        now = self._clock()
        if self._saved_at is None:  # a save would not save what came before the first step: restoring, a census
            self._saved_at = now
        if not self._is_auto:
            fixed = self._config.save_every_seconds
            return fixed is not None and now - self._saved_at >= fixed
        if self._pace.step(now, is_publishing):
            self._interval = None
        if now - self._saved_at < self._seconds(now):
            return False
        self._tell()
        return True

    def saved(self) -> None:
        """A snapshot was taken: the next one is counted from here."""
        self._saved_at = self._pace.last = self._clock()
        self._copies.append(self._costs.copy_seconds or 0.0)
        self._interval = None

    def _seconds(self, now: float) -> float:
        """Chosen anew when there is something new to know: the first save comes early, to be measured."""
        max_lost, publishing = self._config.max_lost_seconds, self._under_way()
        if not self._copies:
            return min(LEAST_SECONDS, max_lost)
        if publishing is None:
            return max(max_lost, self._cost() / MAX_SHARE)
        if self._interval is None:
            self._interval = balanced(self._cost(), publishing, self._between(now), max_lost)
        return self._interval.seconds

    def _between(self, now: float) -> float:
        """The mean time between interruptions, of this folder's attempts and this one."""
        seen = History(0, 0.0)
        if self._history is not None and self._history.done() and self._history.exception() is None:
            seen = self._history.result()
        return (BEFORE.seconds + seen.seconds + now - self._began) / (BEFORE.num_interrupted + seen.num_interrupted)

    def _tell(self) -> None:
        """Say what was chosen and why; again only when it is another by much."""
        chosen = self._interval
        if chosen is None or (self._told and 1 / MUCH < chosen.seconds / self._told < MUCH):
            return
        self._told = chosen.seconds
        cost, between = self._cost(), self._between(self._clock())
        facts = (
            f"a save takes {cost:.2g} s from the training and is published {self._under_way() or 0:.2g} s "
            f"later; an interruption every {duration(between)}"
        )
        text = f"every {duration(chosen.seconds)}: {chosen.because} ({facts})"
        self._console.line("saving", text, seconds=chosen.seconds, cost_seconds=cost, between_seconds=between)

    def _under_way(self) -> float | None:
        """Seconds from a copy to its commit, while training goes on."""
        seconds = self._costs.publish_seconds
        return None if seconds is None else seconds + self._costs.rest_seconds

    def _cost(self) -> float:
        """Seconds that a save takes from the training: for the copy, and by slowing the steps beside its upload."""
        return median(self._copies) + self._pace.lost_seconds


@dataclass
class _Pace:
    """By how much steps are slower while a checkpoint is being published. `last`: when the last one ended."""

    last: float
    costs: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_COSTS))
    quiet: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_STEPS))
    num_busy: int = 0
    busy_seconds: float = 0.0
    was_busy: bool = False

    @property
    def lost_seconds(self) -> float:
        """What a publication costs beside the copy; 0 as long as nobody knows."""
        return median(self.costs) if self.costs else 0.0

    def step(self, now: float, is_busy: bool) -> bool:
        """A step has ended; whether a publication did."""
        seconds = now - self.last
        if is_busy or self.was_busy:
            self.num_busy, self.busy_seconds = self.num_busy + 1, self.busy_seconds + seconds
        else:
            self.quiet.append(seconds)
        has_ended = self.was_busy and not is_busy
        self.last, self.was_busy = now, is_busy
        if has_ended:
            self._end()
        return has_ended

    def _end(self) -> None:
        if len(self.quiet) >= MIN_STEPS:
            self.costs.append(max(0.0, self.busy_seconds - self.num_busy * self._undisturbed()))
        self.num_busy, self.busy_seconds = 0, 0.0

    def _undisturbed(self) -> float:
        """Mean seconds of a quiet step, without what is none: the first one of a round comes after its census."""
        most = OUTLIER * median(self.quiet)
        return fmean(seconds for seconds in self.quiet if seconds <= most)
