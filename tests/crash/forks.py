"""Submissions as processes that start in a fraction of a second: forked from one that has imported torch already.

    python -m tests.crash.forks

reads submissions as JSON lines from stdin and writes, for each, the child's process id and then its exit code. It has
imported torch and the trainer, but not obstore, whose threads would not survive a fork.
"""

import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO

from tests.crash.submission import Submission, run

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 120
IMPORTED = (
    "torch", "torch._dynamo", "numpy", "pydantic", "safetensors.torch", "rich.console", "rich.table", "tqdm", "yaml",
    "botocore.session", "botocore.endpoint", "zstandard", "smart_open", "entrypoint.config", "entrypoint.console",
    "entrypoint.exits", "entrypoint.report", "trainer.loop", "trainer.checkpoint", "trainer.census", "trainer.state",
    "tests.crash.counted", "cloud.claim", "cloud.cache", "cloud.held", "cloud.local", "cloud.retry", "cloud.catalog",
)  # fmt: skip


class Forks:
    """A process that forks one submission at a time. `start`, signals to `pid` as one likes, `wait`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid: int | None = None
        """The submission under way."""

    def start(self, submission: Submission) -> int:
        """Begin a submission and return its process id."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(submission.to_json()).encode() + b"\n")
        self.pid = int(self._answer(LIMIT_SECONDS))
        return self.pid

    def wait(self, seconds: float = LIMIT_SECONDS) -> int:
        """The exit code, negative when a signal ended it. TimeoutError, and an end to it, after so many seconds."""
        try:
            return int(self._answer(seconds))
        finally:
            self.pid = None

    def send(self, number: signal.Signals) -> None:
        """A signal to the submission under way, if there still is one."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def is_over(self, seconds: float) -> bool:
        """Whether the submission ends within so many seconds."""
        return bool(select.select([self._stdout()], [], [], seconds)[0])

    def _answer(self, seconds: float) -> bytes:
        if not self.is_over(seconds):
            self.send(signal.SIGKILL)
            self._stdout().readline()
            raise TimeoutError(f"a submission did not end within {seconds:g} s")
        line = self._stdout().readline()
        if not line:
            raise RuntimeError("the process that forks has died")
        return line

    def _stdout(self) -> IO[bytes]:
        """Without a buffer: a line that waits in one would be hidden from `select`."""
        assert self._process.stdout is not None
        return self._process.stdout


@contextmanager
def forking() -> Iterator[Forks]:
    """A process that forks, until the end of the block."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        env=env, bufsize=0, start_new_session=True,  # Ctrl-C is for whoever runs the tests
    )  # fmt: skip
    forks = Forks(process)
    try:
        yield forks
    finally:
        forks.send(signal.SIGKILL)
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def serve() -> None:
    """Fork as asked for, until stdin ends."""
    for name in IMPORTED:
        import_module(name)
    assert "obstore" not in sys.modules, "its threads would not survive a fork"
    gc.freeze()  # a collection in a child would copy every page
    while line := sys.stdin.readline():
        submission = Submission.from_json(json.loads(line))
        pid = os.fork()
        if pid == 0:
            _child(submission)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _child(submission: Submission) -> None:
    code = 71
    try:
        code = run(submission)
    except KeyboardInterrupt:  # before the job took its signals over
        code = 143
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
