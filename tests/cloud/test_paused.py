"""Processes at one folder: many at once, stopped for longer than the timeout, and with clocks that are wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud.claim import Claim, claim
from cloud.folder import OutputFolder
from cloud.held import HeldFolder
from cloud.open import StoreOptions, open_store
from cloud.store import Store
from tests.cloud.folders import publish
from tests.servers import S3Server

HOLDER = """
import os, signal, sys
from cloud.claim import claim
from cloud.held import HeldFolder
from cloud.open import open_store
from cloud.pruning import Keeping
from cloud.wrapped import Wrapped
from entrypoint.exits import exit_code, explain
from tests.cloud.folders import publish

class Stopping(Wrapped):
    def stop(self, moment):
        if moment == sys.argv[2]:
            sys.argv[2] = "never again"
            os.kill(os.getpid(), signal.SIGSTOP)
    def create(self, key, data):
        self.stop(f"before {key}")
        super().create(key, data)
    def delete(self, key):
        self.stop(f"before delete {key}")
        super().delete(key)
    def list(self, prefix="", start_after=""):
        self.stop(f"before list {prefix}" if committed == 2 else "")
        return super().list(prefix, start_after)

committed = 0
store = Stopping(open_store(sys.argv[1], writable=True))
held = claim(store, beat_seconds=0.1)
folder = HeldFolder(store, held)
print("held", flush=True)
try:
    for epoch in (1, 2, 3, 4):
        publish(folder, epoch)
        committed = epoch
        folder.prune(Keeping(last=2, best=0, every=0, score=lambda record: None))
except Exception as error:
    print(explain(error), flush=True)
    os._exit(exit_code(error))
os._exit(0)
"""


@dataclass
class Place:
    """A folder that processes share."""

    url: str
    store: Store
    env: Mapping[str, str]

    @contextmanager
    def started(self, code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A process that does not outlive the block, even when it is stopped."""
        with self._start(code, *arguments) as process:
            try:
                yield process
            finally:
                process.kill()

    def _start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        root = Path(__file__).parents[2]
        env = {**os.environ, **self.env, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", code, self.url, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)

    def claim(self) -> Claim:
        one = claim(self.store, beat_seconds=0.1, timeout_seconds=1.0)
        one.stop_beating()
        return one


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place(str(tmp_path / "run"), open_store(str(tmp_path / "run"), writable=True), {})
    server: S3Server = request.getfixturevalue("s3_server")
    environment: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    for name, value in server.env.items():
        environment.setenv(name, value)
    url = f"{server.make_bucket_once('paused')}/{tmp_path.name}"
    return Place(url, open_store(url, StoreOptions(endpoint_url=server.endpoint_url), writable=True), server.env)


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    stat = Path("/proc") / str(process.pid) / "stat"
    deadline = time.monotonic() + 20
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


def names(store: Store) -> list[str]:
    return [record.name for record in OutputFolder(store).records()]


@pytest.mark.parametrize(
    ("moment", "late"),
    [
        ("before list attempts/", []),  # its next check: it finds out
        ("before ckpt_3-a1.json", ["ckpt_3-a1"]),  # between check and commit: one record of its own
        ("before delete ckpt_1-a1.json", []),  # between check and removal: one removal of what it had replaced itself
    ],
)
def test_a_stopped_process_finds_out_before_it_publishes_or_prunes_again(
    place: Place, moment: str, late: list[str]
) -> None:
    with place.started(HOLDER, moment) as process:
        wait_until_stopped(process)
        before = set(names(place.store))
        new = HeldFolder(place.store, place.claim())
        assert new.claim.number == 2
        publish(new, 7)
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 75, out
    assert "attempt 2 took" in out
    after = set(names(place.store))
    assert after - before == {"ckpt_7-a2", *late}
    assert before - after <= {"ckpt_1-a1"}
    assert names(place.store)[0] == "ckpt_7-a2", "whatever came late is older"
    objects = {entry.key for entry in place.store.list("ckpt_") if entry.key.endswith(".pth")}
    assert {f"{name}.pth" for name in after} <= objects


CLAIMER = """
import os, sys, time
from cloud.claim import claim
from cloud.open import open_store
from entrypoint.exits import exit_code
from tests.cloud.wrappers import PutOnly

store = open_store(sys.argv[1], writable=True)
store = PutOnly(store, 0.02) if sys.argv[2] == "put only" else store
print("ready", flush=True)
sys.stdin.read()
try:
    one = claim(store, beat_seconds=0.1)
except Exception as error:
    os._exit(exit_code(error))
time.sleep(1.5)
one.check()
os._exit(0)
"""


@pytest.mark.parametrize("form", ["create", "put only"])
def test_of_simultaneous_submissions_one_proceeds_and_the_others_exit_75(place: Place, form: str) -> None:
    env = {**os.environ, **place.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CLAIMER, place.url, form]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert sorted(process.wait(30) for process in processes) == [0, 75, 75, 75]
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()


SKEWED = """
import sys, time
skew = float(sys.argv[2])
real = time.time
time.time = lambda: real() + skew
from cloud.claim import claim
from cloud.errors import ClaimHeld
from cloud.open import open_store
try:
    one = claim(open_store(sys.argv[1], writable=True), beat_seconds=0.1, timeout_seconds=1.0)
    print(one.number, flush=True)
except ClaimHeld:
    print("held", flush=True)
"""


@pytest.mark.parametrize("skew", [-86400, 86400])
def test_a_day_of_skew_changes_nothing(tmp_path: Path, skew: int) -> None:
    """Neither the clock of a process nor the times of files say who is alive: only whether signs of life change."""
    place = Place(str(tmp_path / "run"), open_store(str(tmp_path / "run"), writable=True), {})
    one = claim(place.store, beat_seconds=0.1)
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, (time.time() + skew, time.time() + skew))
    with place.started(SKEWED, str(skew)) as process:
        assert process.communicate(timeout=20)[0] == "held\n"
    one.stop_beating()
    one.check()
    with place.started(SKEWED, str(skew)) as process:
        assert process.communicate(timeout=20)[0] == "2\n", "silent for as long as the timeout by its own clock"
