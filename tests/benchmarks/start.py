"""Time from process start to the end of the second step when a 50 MB checkpoint is resumed, local and from S3.

python -m tests.benchmarks.start [--pairs N] [--tiny]

Beside it the parts that overlap, each in a process of its own: the imports of a job, and the fetching. Claim and
listing are a few requests: less than either.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from cloud.open import open_store
from cloud.transfer import Digester, fetch
from tests.benchmarks.measured import Figures, program
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from tests.servers import S3Server, start_s3

OURS, BARE = "perdure, local folder", "bare torch"
IMPORTS, FETCHING = "its imports alone", "fetching from S3 alone"
IMPORT = """
import os, entrypoint.session, tests.benchmarks.wide_task
from pathlib import Path
from tests.benchmarks.reported import report_and_stop
report_and_stop(Path(os.environ["BENCHMARK_REPORT"]))
"""
TASK = ("--task", f"{Path(__file__).with_name('wide_task.py')}:Wide", "--epochs", "1000", "--keep_last", "2")


def resumed(command: Sequence[str], report: Path, env: Mapping[str, str]) -> Figures:
    """A process that stops itself after its second step, and the seconds that it reported until then."""
    report.unlink(missing_ok=True)
    figures = program(command, {**env, "BENCHMARK_REPORT": str(report)}, returns=(0, -15, 143))
    return {**figures, "seconds": float(report.read_text())}


def tables(options: Options) -> Iterator[Table]:
    """Seconds from the start of a process to the end of its second step."""
    with tempfile.TemporaryDirectory() as name, s3_unless_tiny(Path(name) / "s3", options) as server:
        folder, report, width = Path(name), Path(name) / "report", options.size(2000, 100)
        (folder / "data").mkdir()
        np.savetxt(folder / "data" / "0.csv", np.random.default_rng(0).normal(size=(2000, 16)), "%.4f", ",")
        job = [sys.executable, "-m", "entrypoint", "--data_url", str(folder / "data"), *TASK, "--set", f"width={width}"]
        commands = {OURS: [*job, "--train_url", str(folder / "run")]}
        if server is not None:
            commands["perdure, S3"] = [*job, "--train_url", f"{server.make_bucket('bench')}/run"]
        env = server.env if server is not None else {}
        for command in commands.values():  # a first attempt, stopped after two steps: there is something to resume
            resumed(command, report, env)
        checkpoint = next((folder / "run").glob("ckpt_*.pth"))
        bare = [sys.executable, "-m", "tests.benchmarks.bare"]
        commands[BARE] = [*bare, str(checkpoint), str(folder / "data/0.csv"), str(report), str(width)]
        parts = {IMPORTS: partial(resumed, [sys.executable, "-c", IMPORT], report, env)}
        if server is not None:
            parts[FETCHING] = options.child(fetched, f"{server.make_bucket_once('bench')}/run", env=env)
        yield Table(
            title=f"start to the end of step 2, resuming a {checkpoint.stat().st_size / 1e6:.3g} MB checkpoint",
            cases={case: partial(resumed, command, report, env) for case, command in commands.items()} | parts,
            ours=OURS,
            goals=[
                Goal(
                    says=f"{case}: 1.25 times its longest part",
                    most=1.25,
                    case=case,
                    against=IMPORTS,
                )
                for case in commands
                if case != BARE
            ],
        )


def fetched(url: str) -> None:
    """The newest checkpoint, in parallel ranges, with its digest."""
    store = open_store(url)
    newest = max((entry for entry in store.list() if entry.key.endswith(".pth")), key=lambda entry: entry.key)
    with tempfile.TemporaryDirectory() as name:
        fetch(store, newest.key, Path(name) / "it", size=newest.size, digester=Digester())


def s3_unless_tiny(folder: Path, options: Options) -> AbstractContextManager[S3Server | None]:
    """A server, for whose start there is no time where one only looks whether a program works."""
    return nullcontext() if options.tiny else start_s3(folder)


if __name__ == "__main__":
    main(tables)
