"""Which kills: every operation of a run, before and after it, and then at random until each phase has its share."""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.crash.forks import Forks
from tests.crash.ground import ARGUMENTS, Ground, Run
from tests.crash.kills import PHASES, refused
from tests.crash.tripwire import Kill, When
from tests.servers import S3Server

Moments = Mapping[tuple[str, When], int]
Trial = tuple[str, Sequence[Kill]]
"""The kind of place, and the kills of one run, one after the other."""

BALLAST = ("--set", "num_ballast=1500000")  # 6 MB: an upload of two parts
SAMPLED: Mapping[tuple[str, When], int] = {
    ("snapshot", "before"): 40, ("snapshot", "after"): 40, ("upload", "middle"): 60,
    ("aside", "middle"): 20,
}  # fmt: skip
"""Moments of which a run has hundreds; of them that many are taken."""

CHAIN = 4
"""How often a run is killed."""

MAX_MILLISECONDS = 500
NUM_TIMES = 60
NUM_PER_MOMENT = 20
LAST = ("export", "leave")
"""Phases at the end of a run: after a kill there only those come that a run with nothing to do has."""

ASIDE = ("aside", "back")
"""Phases of a run that is saved on this machine first, because its store refuses."""

EARLY = ("life", "claim", "fetch", "restore", "census")
"""Phases that any submission has."""


def ground_of(kind: str, folder: Path, server: S3Server | None) -> Ground:
    """`local`, `s3`, or `parts`: S3 with checkpoints that take several parts. `folder` is made."""
    folder.mkdir(parents=True)
    if kind == "local":
        return Ground(folder=folder, server=None, bucket="", arguments=ARGUMENTS)
    assert server is not None
    arguments = ARGUMENTS + (BALLAST if kind == "parts" else ())
    return Ground(folder=folder, server=server, bucket=server.make_bucket(f"crash-{kind}"), arguments=arguments)


def moments(ground: Ground, forks: Forks) -> Moments:
    """How often each moment comes in a run that nobody disturbs, and in one that begins on this machine."""
    run = Run(ground, "counting")
    assert run.submit(forks, 2) == 0, run.said()
    found = _passed(run)
    aside = Run(ground, "counting-aside")
    assert (refused(aside, forks), aside.submit(forks, 2)) == (74, 0), aside.said()
    found |= {moment: num for moment, num in _passed(aside).items() if moment[0] in ASIDE}
    return found


def _passed(run: Run) -> dict[tuple[str, When], int]:
    lines = map(json.loads, (run.folder / "note").read_text().splitlines())
    run.remove()
    return {(phase, when): num for line in lines for phase, when, num in line["passed"]}


def all_kills(found: Mapping[str, Moments], rng: random.Random) -> dict[str, list[Kill]]:
    """Every moment of a run in every kind of place, in random order; where a run takes long only its uploads."""
    kills = {}
    for kind, counted in found.items():
        of_kind = [kill for moment, num in counted.items() for kill in _each(*moment, num)]
        of_kind += [Kill("time", "middle", rng.randint(1, MAX_MILLISECONDS)) for _ in range(NUM_TIMES)]
        rng.shuffle(of_kind)
        kills[kind] = [kill for kill in of_kind if kind != "parts" or kill.phase == "upload"]
    return kills


class Trials:
    """Takes kills for one run after the other, until each has come to pass or cannot, and there are enough."""

    def __init__(self, found: Mapping[str, Moments], rng: random.Random, num_kills: int) -> None:
        self._left = all_kills(found, rng)
        self._missed: dict[str, list[Kill]] = {kind: [] for kind in found}
        self._found, self._rng, self._num_kills = found, rng, num_kills

    def next(self, counted: Counter[tuple[str, str]]) -> Trial | None:
        """The kills of the next run; None when all is done. `counted`: those that came to pass so far."""
        kinds = [kind for kind in self._left if self._left[kind] or self._missed[kind]]
        if kinds:
            kind = self._rng.choice(kinds)
            return kind, self._chain(kind)
        if moments_wanted := missing(counted, NUM_PER_MOMENT):
            phase, when = self._rng.choice(moments_wanted)
            return self._rng.choice(("local", "s3")), [Kill(phase, when, 1)]
        if counted.total() < self._num_kills:
            return self._rng.choice(("local", "s3")), [Kill("time", "middle", self._rng.randint(1, MAX_MILLISECONDS))]
        return None

    def again(self, kind: str, kills: Sequence[Kill]) -> None:
        """These did not come to pass, because the run was done before: each shall be the first kill of another run."""
        self._missed[kind] += kills

    def _chain(self, kind: str) -> list[Kill]:
        """One that shall be first, if there is one, and others in the order in which a run comes by them."""
        first = [self._missed[kind].pop()] if self._missed[kind] else []
        taken = [self._left[kind].pop() for _ in range(min(CHAIN - len(first), len(self._left[kind])))]
        return first + sorted(taken, key=lambda kill: (kill.phase in EARLY, kill.phase in LAST))


def missing(counted: Counter[tuple[str, str]], wanted: int) -> list[tuple[str, When]]:
    """The moments that were met fewer than `wanted` times."""
    sides: tuple[When, When] = ("before", "after")
    return [(phase, when) for phase in PHASES for when in sides if counted[phase, when] < wanted]


def _each(phase: str, when: When, num: int) -> list[Kill]:
    step = max(1, num // SAMPLED.get((phase, when), num))
    return [Kill(phase, when, number) for number in range(1, num + 1, step)]
