"""Runs that are killed: which kills, what happened, and how they are counted."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cloud.errors import CloudError
from cloud.open import open_store
from tests.crash.forks import Forks
from tests.crash.ground import Ground, Run, check_clean, check_exact, check_whole, unfinished_uploads
from tests.crash.tripwire import KILLED, Kill

PHASES = (
    "claim",
    "fetch",
    "census",
    "step",
    "snapshot",
    "upload",
    "record",
    "prune",
    "export",
    "leave",
    "aside",
    "back",
)
"""Each is killed at least 20 times; others (restore, ledger, check, life, evaluate, metrics, any) come beside them."""


@dataclass
class Tally:
    """Kills by (phase, when), and what else was counted."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    num_trials: int = 0
    num_submissions: int = 0
    missed: list[Kill] = field(default_factory=list)
    """Kills whose moment did not come, because the run was done before."""
    num_unfinished: int = 0
    """Multipart uploads that were found cut off after a kill."""

    def of(self, phase: str) -> Counter[str]:
        """Kills in a phase, by when."""
        return Counter({when: num for (name, when), num in self.kills.items() if name == phase})

    def add(self, other: "Tally") -> None:
        """Take what another one counted."""
        self.kills += other.kills
        self.num_trials += other.num_trials
        self.num_submissions += other.num_submissions
        self.missed += other.missed
        self.num_unfinished += other.num_unfinished


def phases_of(tally: Tally) -> list[str]:
    """The ten first, then what else was met."""
    return [*PHASES, *sorted({phase for phase, _ in tally.kills} - set(PHASES))]


def trial(ground: Ground, forks: Forks, name: str, kills: Sequence[Kill]) -> Tally:
    """A new run that is killed so often, then submitted until it is done; AssertionError when anything is lost."""
    run, tally = Run(ground, name), Tally(num_trials=1)
    try:
        for kill in kills:
            _killed(run, forks, kill, tally)
        for num_rounds in (2, 3):
            code = run.submit(forks, num_rounds)
            tally.num_submissions += 1
            assert code == 0, f"exit code {code}"
            check_exact(run, num_rounds)
        check_clean(run)
    except (AssertionError, TimeoutError, OSError, CloudError) as error:
        told = ", ".join(map(str, kills))
        raise AssertionError(f"{name}, killed {told}: {error}\n{run.said()}") from error
    run.remove()
    return tally


def refused(run: Run, forks: Forks, kill: Kill | None = None) -> int:
    """A submission whose store takes no checkpoint: 74, and the newest state on this machine; 0 if nothing was left."""
    return run.submit(forks, 2, kill=kill, patch="tests.crash.faults:refuse_checkpoints")


def _killed(run: Run, forks: Forks, kill: Kill, tally: Tally) -> None:
    """One submission that is to be killed, and its folder right afterwards."""
    if kill.phase == "back":
        assert refused(run, forks) in (0, 74)
        tally.num_submissions += 1
    code = refused(run, forks, kill) if kill.phase == "aside" else run.submit(forks, 2, kill=kill)
    tally.num_submissions += 1
    if code in (KILLED, -9):
        tally.kills[last_kill(run)] += 1
    else:
        assert code == 0 or (code == 74 and kill.phase == "aside"), f"exit code {code}"
        tally.missed.append(kill)
    check_whole(run.store)
    for aside in run.scratch.glob("perdure-cache-*/unpublished/*"):
        check_whole(open_store(str(aside)))
    tally.num_unfinished += len(unfinished_uploads(run))


def last_kill(run: Run) -> tuple[str, str]:
    """The phase and the moment at which the last process was killed."""
    noted = json.loads((run.folder / "note").read_text().splitlines()[-1])
    return noted["phase"], noted["when"]
