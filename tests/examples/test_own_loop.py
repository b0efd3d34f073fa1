"""The README's own loop, run as its reader would run it: stopped, killed, run again, and run twice at a time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cloud.claim import claim
from cloud.open import open_store
from tests.e2e.submit import assert_same_training, attempts

FILE = Path(__file__).with_name("own_loop.py")
LIMIT_SECONDS = 120


def start(folder: Path) -> "subprocess.Popen[str]":
    """The loop as a process."""
    command = [sys.executable, str(FILE), str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FILE.parents[2])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def run(folder: Path) -> tuple[int, str]:
    """(exit code, stderr) of the loop, left alone."""
    with start(folder) as process:
        _, err = process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode, err


def interrupt(folder: Path, number: signal.Signals, epoch: int) -> int:
    """The exit code of the loop when a signal comes in the middle of the epoch after this one."""
    with start(folder) as process:
        assert process.stdout is not None
        came_at = time.monotonic()
        for line in process.stdout:
            seconds, came_at = time.monotonic() - came_at, time.monotonic()
            if line.startswith(f"epoch       {epoch}:"):
                time.sleep(seconds / 2)  # half of what the last epoch took
                process.send_signal(number)
        process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode


def test_stopped_and_killed_it_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    assert interrupt(disturbed, signal.SIGTERM, 3) == 143
    assert interrupt(disturbed, signal.SIGKILL, 7) == -signal.SIGKILL
    code, err = run(disturbed)
    assert (code, "error" in err) == (0, False)  # what it was killed while writing may be named
    assert run(undisturbed) == (0, "")
    store = open_store(str(disturbed))
    assert_same_training(store, open_store(str(undisturbed)))

    assert run(disturbed) == (0, "")  # all is done: nothing happens
    outcomes = attempts(store)
    assert [one.get("outcome") for one in outcomes] == ["stopped", None, "done", "nothing_new"]
    assert [one["last_global_step"] for one in outcomes[2:]] == [20 * 47, 20 * 47]


def test_while_another_process_lives_it_leaves_with_75_and_no_trace(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), writable=True)
    held = claim(store, beat_seconds=0.5)
    try:
        code, err = run(tmp_path)
    finally:
        held.stop_beating()
    assert code == 75
    assert err.splitlines()[-1].startswith("perdure: error: ")
    assert [path.name for path in sorted((tmp_path / "attempts").iterdir())] == ["000001.json", "000001.life"]
