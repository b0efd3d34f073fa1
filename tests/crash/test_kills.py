"""Sixty kills, in each phase before and after something happens; `make crash-test` kills at every operation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.campaign import ground_of
from tests.crash.forks import Forks, forking
from tests.crash.ground import Ground
from tests.crash.kills import PHASES, trial
from tests.crash.tripwire import Kill
from tests.servers import S3Server

CHAINS = (
    "before prune 1, after step 3, before upload 1, before export 1, before claim 2",
    "after prune 2, before snapshot 5, after record 1, after export 1, after fetch 2",
    "before census 2, after upload 2, before step 2, before leave 1, after claim 1",
    "before record 2, after snapshot 9, after census 1, after leave 1, before fetch 1",
)
"""The kills of four runs, one after the other: every phase once before and once after."""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with forking() as process:
        yield process


@pytest.fixture(params=["local", "s3"])
def ground(request: pytest.FixtureRequest, forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    kind = request.param
    server: S3Server | None = None if kind == "local" else request.getfixturevalue("s3_server")
    for name, value in (server.env if server else {}).items():
        monkeypatch.setenv(name, value)
    ground = ground_of(kind, tmp_path / kind, server)
    ground.prepare(forks)
    return ground


def test_killed_in_every_phase_nothing_is_lost_and_nothing_stays_behind(ground: Ground, forks: Forks) -> None:
    for number, chain in enumerate(CHAINS if ground.server else 2 * CHAINS):
        kills = kills_of(chain)
        tally = trial(ground, forks, f"run-{number}", kills)
        assert tally.kills == {(kill.phase, kill.when): 1 for kill in kills}, "each kill came to pass"


def test_all_phases_are_in_the_chains() -> None:
    found = [(kill.phase, kill.when) for chain in CHAINS for kill in kills_of(chain)]
    assert sorted(found) == sorted((phase, when) for phase in PHASES for when in ("before", "after"))


def kills_of(chain: str) -> list[Kill]:
    return [Kill.parse(text) for text in chain.split(", ")]
