"""Time from the start of a process to the end of its second step, over the size and the number of old checkpoints.

python -m tests.benchmarks.resume [--pairs N] [--tiny]
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from os import environ
from pathlib import Path

import numpy as np

from tests.benchmarks.measured import Case
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from tests.benchmarks.start import TASK, resumed, s3_unless_tiny

WIDTHS = (900, 2900, 9100, 18200)
"""Of checkpoints of 10 MB, 100 MB, 1 GB and 4 GB: twelve bytes for each parameter."""

NUM_OLD = (1, 10, 100, 500)
JOB = [sys.executable, "-m", "entrypoint", *TASK, "--threads", "1", "--save_every", "epoch"]


def tables(options: Options) -> Iterator[Table]:
    """Seconds to the end of the second step."""
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.mkdir()
        np.savetxt(data / "0.csv", np.random.default_rng(0).normal(size=(96, 16)), "%.4f", ",")
        yield from over_number(Path(name), data, options)
        if not options.tiny:  # when tiny it would be what `start` is
            yield from over_size(Path(name), data)


def over_size(folder: Path, data: Path) -> Iterator[Table]:
    """A table for each size, on a local folder, beside a bare script that loads the same file."""
    for width in WIDTHS:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            yield _of_size(width, Path(name), data)


def _of_size(width: int, folder: Path, data: Path) -> Table:
    report, loaded = folder / "report", folder / "loaded.pth"
    ours = [*JOB, "--data_url", str(data), "--train_url", str(folder / "run"), "--set", f"width={width}"]
    resumed(ours, report, {})  # a first attempt: there is something to resume
    loaded.hardlink_to(next((folder / "run").glob("ckpt_*.pth")))  # which stays when the folder's own is pruned
    bare = [sys.executable, "-m", "tests.benchmarks.bare", *map(str, (loaded, data / "0.csv", report, width))]
    return Table(
        title="start to the end of step 2, by the size of the checkpoint",
        cases={
            "bare torch": partial(resumed, bare, report, {"OMP_NUM_THREADS": "1"}),
            "perdure": partial(resumed, ours, report, {}),
        },
        ours="perdure",
        axis="checkpoint, MB",
        at=loaded.stat().st_size / 1e6,
    )


def over_number(folder: Path, data: Path, options: Options) -> Iterator[Table]:
    """One table: the same small checkpoint as the newest of many, on S3."""
    with s3_unless_tiny(folder / "s3", options) as server:
        bucket, env = (server.make_bucket("bench"), server.env) if server else (str(folder / "runs"), {})
        cases: dict[str, Case] = {}
        for number in options.size(NUM_OLD, (2,)):
            job = [*JOB, "--data_url", str(data), "--set", "width=50", "--keep_last", str(max(2, number))]
            job += ["--train_url", f"{bucket}/{number}"]
            _train(job, number, env)
            cases[_name(number)] = partial(resumed, job, folder / "report", env)
        few, many = next(iter(cases)), list(cases)[-1]
        yield Table(
            title="start to the end of step 2, by the number of checkpoints in the folder" + (", S3" if server else ""),
            cases=cases,
            ours=many,
            goals=[Goal(says=f"{many}: at most 0.1 s more than {few}", most=0.1, against=few, is_above=True)],
        )


def _train(job: list[str], num_epochs: int, env: Mapping[str, str]) -> None:
    """As many epochs, each with its checkpoint; the last --epochs of a command line counts."""
    command = [*job, "--epochs", str(num_epochs)]
    subprocess.run(command, env={**environ, **env}, capture_output=True, check=True)


def _name(number: int) -> str:
    return "1 checkpoint" if number == 1 else f"{number} checkpoints"


if __name__ == "__main__":
    main(tables)
