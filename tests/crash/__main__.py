"""`make crash-test`: runs of two rounds killed at every operation, before and after it, and what became of them.

    python -m tests.crash [--kills N] [--workers N] [--seed N]

Each run is killed up to four times, submitted again until it is done, and compared with one that nobody disturbed.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Lock

from rich.console import Console
from rich.table import Table

from tests.crash.campaign import Trial, Trials, ground_of, moments
from tests.crash.forks import Forks, forking
from tests.crash.ground import Ground
from tests.crash.kills import Tally, phases_of, trial
from tests.crash.tripwire import Kill
from tests.servers import start_s3

KINDS = ("local", "s3", "parts")
MAX_FAILURES = 5
SAY_SECONDS = 30.0


class Campaign:
    """Trials taken by workers, one after the other, and what they counted. All methods are for any thread."""

    def __init__(self, trials: Trials) -> None:
        self.tallies = {kind: Tally() for kind in KINDS}
        self.failures: list[str] = []
        self._trials = trials
        self._lock = Lock()
        self._started = self._said = time.monotonic()
        self._num_begun = 0
        self._is_stopped = False

    @property
    def total(self) -> Tally:
        """All kinds of places together."""
        total = Tally()
        for tally in self.tallies.values():
            total.add(tally)
        return total

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def work(self, grounds: dict[str, Ground], forks: Forks) -> None:
        """Until there is nothing left to do."""
        while (taken := self._next()) is not None:
            number, (kind, kills) = taken
            try:
                tally = trial(grounds[kind], forks, f"run-{number}", kills)
            except AssertionError as error:
                print(error, file=sys.stderr, flush=True)
                with self._lock:
                    self.failures.append(str(error))
                    self._is_stopped |= len(self.failures) >= MAX_FAILURES
            else:
                self._count(kind, tally, kills[0])

    def stop(self) -> None:
        """Begin no other run."""
        self._is_stopped = True

    def _next(self) -> tuple[int, Trial] | None:
        with self._lock:
            self._num_begun += 1
            found = None if self._is_stopped else self._trials.next(self.total.kills)
            return None if found is None else (self._num_begun, found)

    def _count(self, kind: str, tally: Tally, first: Kill) -> None:
        with self._lock:
            self.tallies[kind].add(tally)
            self._trials.again(kind, [kill for kill in tally.missed if kill is not first])
            if time.monotonic() - self._said > SAY_SECONDS:
                self._said = time.monotonic()
                total = self.total
                print(f"{self.seconds:5.0f} s: {total.kills.total()} kills in {total.num_trials} runs", flush=True)


def table(campaign: Campaign) -> Table:
    """Kills by phase, place and moment."""
    shown = Table("phase", *KINDS, "before", "middle", "after", "all")
    total = campaign.total
    for phase in phases_of(total):
        places = [sum(campaign.tallies[kind].of(phase).values()) for kind in KINDS]
        moments_of = total.of(phase)
        numbers = [*places, *(moments_of[when] for when in ("before", "middle", "after")), sum(moments_of.values())]
        shown.add_row(phase, *map(str, numbers))
    places = [campaign.tallies[kind].kills.total() for kind in KINDS]
    sums = [sum(num for (_, when), num in total.kills.items() if when == one) for one in ("before", "middle", "after")]
    shown.add_section()
    shown.add_row("all", *map(str, [*places, *sums, total.kills.total()]))
    return shown


def main() -> int:
    """The whole; 1 when anything was lost or left behind."""
    options = _options()
    print(f"seed {options.seed}; {options.workers} workers; at least {options.kills} kills", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crash-test-")))
        server = stack.enter_context(start_s3(folder / "server"))
        os.environ.update(server.env)
        workers = [stack.enter_context(forking()) for _ in range(options.workers)]
        grounds = {kind: ground_of(kind, folder / kind, server) for kind in KINDS}
        for ground in grounds.values():
            ground.prepare(workers[0])
        found = {kind: moments(ground, workers[0]) for kind, ground in grounds.items()}
        campaign = Campaign(Trials(found, random.Random(options.seed), options.kills))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: campaign.stop())
        with ThreadPoolExecutor(options.workers) as pool:
            for future in [pool.submit(campaign.work, grounds, forks) for forks in workers]:
                future.result()
    total = campaign.total
    Console(width=110).print(table(campaign))
    print(
        f"{total.kills.total()} kills in {total.num_trials} runs, {total.num_submissions} submissions, "
        f"{len(total.missed)} kills whose moment did not come, {total.num_unfinished} uploads found cut off; "
        f"{campaign.seconds:.0f} s; "
        f"{len(campaign.failures)} runs lost something or left something behind"
    )
    return 1 if campaign.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
