"""Time from process start to the end of the second step when a 50 MB checkpoint is resumed, local and from S3.

python -m tests.benchmarks.start [RUNS]
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.benchmarks.table import show
from tests.servers import start_s3

TASK = ("--task", f"{Path(__file__).with_name('wide_task.py')}:Wide", "--epochs", "1000", "--keep_last", "2")


def measure(command: list[str], report: Path, env: Mapping[str, str]) -> float:
    """The seconds that a process reported; it stops itself."""
    report.unlink(missing_ok=True)
    variables = {**os.environ, **env, "BENCHMARK_REPORT": str(report)}
    done = subprocess.run(command, env=variables, capture_output=True, check=False)
    if not report.exists():
        raise RuntimeError(done.stderr.decode())
    return float(report.read_text())


def main(runs: int) -> None:
    """Measure, the variants in turn."""
    with tempfile.TemporaryDirectory() as name, start_s3(Path(name) / "s3") as server:
        folder, report = Path(name), Path(name) / "report"
        bucket = server.make_bucket("bench")
        (folder / "data").mkdir()
        np.savetxt(folder / "data" / "0.csv", np.random.default_rng(0).normal(size=(2000, 16)), "%.4f", ",")
        job = [sys.executable, "-m", "entrypoint", "--data_url", str(folder / "data"), *TASK]
        local, remote = ([*job, "--train_url", url] for url in (str(folder / "run"), f"{bucket}/run"))
        for command in (local, remote):
            measure(
                command, report, server.env
            )  # a first attempt, stopped after two steps: there is something to resume
        checkpoint = next((folder / "run").glob("ckpt_*.pth"))
        bare = [sys.executable, "-m", "tests.benchmarks.bare", str(checkpoint), str(folder / "data/0.csv"), str(report)]
        figures: dict[str, list[float]] = {"bare torch": [], "perdure, local folder": [], "perdure, S3": []}
        for _ in range(runs):
            for each, command in zip(figures.values(), (bare, local, remote), strict=True):
                each.append(measure(command, report, server.env))
        size = checkpoint.stat().st_size / 1e6
        show(f"start to the end of step 2, resuming a {size:.0f} MB checkpoint", "seconds", figures, "bare torch")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
