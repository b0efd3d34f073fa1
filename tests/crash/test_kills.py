"""Seventy-two kills, in each phase before and after something happens; `make crash-test` kills at every operation."""

from collections.abc import Iterator

import pytest

from tests.crash.campaign import ground_of
from tests.crash.faults import SEED
from tests.crash.forks import Forks, forking
from tests.crash.ground import Ground, Run, check_clean, check_exact, check_whole
from tests.crash.kills import PHASES, trial
from tests.crash.tripwire import Kill
from tests.servers import S3Server

CHAINS = (
    "before aside 4, before prune 1, after step 3, before upload 1, before export 1, before claim 2",
    "after prune 2, before snapshot 2, after record 1, before back 7, after export 1, after fetch 2",
    "before census 2, after upload 2, before step 2, after back 6, before leave 1, after claim 1",
    "after aside 2, before record 2, after snapshot 2, after census 1, after leave 1, before fetch 1",
)
"""The kills of four runs, one after the other: every phase once before and once after."""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with forking() as process:
        yield process


@pytest.fixture(scope="module", params=["local", "s3"])
def ground(request: pytest.FixtureRequest, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    kind = request.param
    server: S3Server | None = None if kind == "local" else request.getfixturevalue("s3_server")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (server.env if server else {}).items():
            environment.setenv(name, value)
        ground = ground_of(kind, tmp_path_factory.mktemp("crash") / kind, server)
        ground.prepare(forks)
        yield ground


def test_killed_in_every_phase_nothing_is_lost_and_nothing_stays_behind(ground: Ground, forks: Forks) -> None:
    for number, chain in enumerate(CHAINS if ground.server else 2 * CHAINS):
        kills = kills_of(chain)
        tally = trial(ground, forks, f"run-{number}", kills)
        assert tally.kills == {(kill.phase, kill.when): 1 for kill in kills}, "each kill came to pass"


def test_stores_that_fail_hesitate_cut_short_and_repeat_change_nothing(ground: Ground, forks: Forks) -> None:
    run = Run(ground, "faults", env={SEED: ground.folder.name})
    codes = [run.submit(forks, 2, patch="tests.crash.faults:install")]
    while codes[-1] == 74 and len(codes) < 4:
        codes.append(run.submit(forks, 2, patch="tests.crash.faults:install"))
        check_whole(run.store)
    assert codes[-1] == 0, run.said()
    check_exact(run, 2)
    assert run.submit(forks, 3) == 0, run.said()
    check_exact(run, 3)
    check_clean(run)


def test_all_phases_are_in_the_chains() -> None:
    found = [(kill.phase, kill.when) for chain in CHAINS for kill in kills_of(chain)]
    assert sorted(found) == sorted((phase, when) for phase in PHASES for when in ("before", "after"))


def kills_of(chain: str) -> list[Kill]:
    return [Kill.parse(text) for text in chain.split(", ")]
