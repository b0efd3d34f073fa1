"""One submission inside a forked child: the real job, with a tripwire around its stores, its steps and its copies."""

import faulthandler
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.crash.tripwire import Kill, Tripwire, Wired, aside_phase, data_phase, output_phase

HANGS_SECONDS = 100


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is submitted. `log` takes stdout and stderr, `note` a line about the kill; `patch` names a function to call
    in the child first, as module:function.
    """

    argv: Sequence[str]
    log: str
    note: str
    env: Mapping[str, str]
    kill: Kill | None = None
    patch: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Submission":
        """The inverse of `to_json`."""
        kill = plain["kill"]
        return cls(**{**plain, "kill": Kill(**kill) if kill else None})


def run(submission: Submission) -> int:
    """Run the job in this process and return its exit code. Ends the process where the kill says."""
    os.environ.update(submission.env)
    tempfile.tempdir = None
    for stream in (1, 2):
        os.dup2(os.open(submission.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    faulthandler.dump_traceback_later(HANGS_SECONDS)  # what hangs says where
    note = os.open(submission.note, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    wire = Tripwire(submission.kill, lambda line: os.write(note, line))
    _install(wire)
    if submission.patch:
        module, _, name = submission.patch.partition(":")
        getattr(import_module(module), name)()
    from entrypoint.__main__ import main

    code = main(submission.argv, root=Path("/nonexistent"))
    os.write(note, json.dumps({"passed": [[*moment, num] for moment, num in wire.passed.items()]}).encode() + b"\n")
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _install(wire: Tripwire) -> None:
    """Around the places where the job opens its stores; where there is no store, around the method itself."""
    from cloud import objects
    from entrypoint import aside, places, saver, session
    from trainer.loop import Training

    open_output, open_data = places.open_output, places.open_data
    places.open_output = lambda config: Wired(open_output(config), wire, output_phase)
    places.open_data = lambda config: Wired(open_data(config), wire, data_phase)
    open_here = aside.open_store
    aside.open_store = lambda url, writable: Wired(open_here(url, writable=writable), wire, aside_phase)
    objects.PART_BYTES = 5 * 2**20  # the least that S3 allows: an upload of several parts stays small
    Training._step = wire.around("step", Training._step)
    saver.HostCopy.take = wire.around("snapshot", saver.HostCopy.take)
    session.Session._evaluate = wire.around("evaluate", session.Session._evaluate)
    session.resume = wire.around("restore", session.resume)
