"""Which kills: every operation of a run, before and after it, and then at random until each phase has its share."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from tests.crash.forks import Forks
from tests.crash.ground import ARGUMENTS, Ground, Run
from tests.crash.kills import PHASES
from tests.crash.tripwire import Kill, When
from tests.servers import S3Server

Moments = Mapping[tuple[str, When], int]
Trial = tuple[str, Sequence[Kill]]
"""The kind of place, and the kills of one run, one after the other."""

BALLAST = ("--set", "num_ballast=1500000")  # 6 MB: an upload of two parts
SAMPLED: Mapping[tuple[str, When], int] = {
    ("snapshot", "before"): 40, ("snapshot", "after"): 40, ("upload", "middle"): 60
}  # fmt: skip
"""Moments of which a run has hundreds; of them that many are taken."""

MAX_MILLISECONDS = 600
LAST = ("export", "leave")
"""Phases at the end of a run: after a kill there only those come that a run with nothing to do has."""
EARLY = ("claim", "fetch", "census", "leave")
NUM_PARTS_TRIALS = 80


def ground_of(kind: str, folder: Path, server: S3Server | None) -> Ground:
    """`local`, `s3`, or `parts`: S3 with checkpoints that take several parts. `folder` is made."""
    folder.mkdir(parents=True)
    if kind == "local":
        return Ground(folder=folder, server=None, bucket="", arguments=ARGUMENTS)
    assert server is not None
    arguments = ARGUMENTS + (BALLAST if kind == "parts" else ())
    return Ground(folder=folder, server=server, bucket=server.make_bucket(f"crash-{kind}"), arguments=arguments)


def moments(ground: Ground, forks: Forks) -> Moments:
    """How often each moment comes in a run that nobody disturbs."""
    run = Run(ground, "counting")
    assert run.submit(forks, 2) == 0, run.said()
    lines = map(json.loads, (run.folder / "note").read_text().splitlines())
    run.remove()
    return {(phase, when): num for line in lines for phase, when, num in line["passed"]}


def all_trials(found: Mapping[str, Moments], rng: random.Random) -> Iterator[Trial]:
    """Every moment of a run in every kind of place, in random order; where a run takes long only its uploads."""
    trials: list[Trial] = []
    for kind, counted in found.items():
        of_kind = [(kind, kills) for kills in _everywhere(counted, rng)]
        if kind == "parts":
            of_kind = [each for each in of_kind if each[1][0].phase == "upload"][:NUM_PARTS_TRIALS]
        trials += of_kind
    rng.shuffle(trials)
    return iter(trials)


def more_trials(
    found: Moments, rng: random.Random, wanted: Callable[[], Sequence[tuple[str, str]]], is_done: Callable[[], bool]
) -> Iterator[Trial]:
    """What is still missing, until there is enough."""
    while not is_done():
        kill = next(at_random(found, rng))
        if moments_wanted := wanted():
            phase, when = rng.choice(moments_wanted)
            kill = Kill(phase, when, 1)
        yield rng.choice(("local", "s3")), [kill, *islice(at_random(found, rng, kill.phase), 1)]


def at_random(found: Moments, rng: random.Random, after: str = "") -> Iterator[Kill]:
    """Kills that a submission may still meet after one in the phase `after`, without end."""
    while True:
        if after not in LAST and rng.random() < 0.2:
            yield Kill("time", "middle", rng.randint(1, MAX_MILLISECONDS))
            continue
        phase = rng.choice(EARLY if after in LAST else [*PHASES, "ledger", "evaluate", "restore", "metrics", "check"])
        when = rng.choice([when for name, when in found if name == phase])
        yield Kill(phase, when, rng.randint(1, min(3, found[phase, when])))
        after = phase if phase in LAST else after


def missing(counted: Counter[tuple[str, str]], wanted: int) -> list[tuple[str, str]]:
    """The moments that were met fewer than `wanted` times."""
    return [(phase, when) for phase in PHASES for when in ("before", "after") if counted[phase, when] < wanted]


def _everywhere(found: Moments, rng: random.Random) -> Iterator[list[Kill]]:
    """Each moment once, followed by up to two kills somewhere in what is left then; in random order."""
    first = [Kill(phase, when, number) for (phase, when), num in found.items() for number in _numbers(phase, when, num)]
    rng.shuffle(first)
    for kill in first:
        yield [kill, *islice(at_random(found, rng, kill.phase), rng.choice((0, 1, 1, 2)))]


def _numbers(phase: str, when: When, num: int) -> Sequence[int]:
    return range(1, num + 1, max(1, num // SAMPLED.get((phase, when), num)))
