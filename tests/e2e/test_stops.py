"""A stop at every moment of a submission: 143, one line, soon, nothing lost, and in the end exact to the bit."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import pytest

from cloud.folder import OutputFolder
from cloud.names import attempt_key, life_key
from cloud.open import StoreOptions, open_store
from cloud.records import ClaimFile, Host
from cloud.sealed import seal
from cloud.store import Store
from entrypoint.saver import Saver
from tests.e2e.inside import Inside
from tests.e2e.submit import LIMIT_SECONDS, Finished, Job, assert_same_training, attempts
from tests.relay import NO_FAULT, Relay, Request, relaying
from tests.servers import S3Server
from tests.trainer.toy import write_shard

ARGUMENTS = (
    *("--task", "tests.e2e.slow_task:Slow", "--epochs", "3", "--batch_size", "16", "--learning_rate", "0.01"),
    *("--threads", "1", "--memory_bytes", "0"),
)
SOON_SECONDS = 10.0  # for what takes about one on an idle machine
STOPPED = "perdure: error: stopped by {}: submit again to continue\n"
ELSEWHERE = Host(boot_id="another", pid_namespace="pid:[1]", pid=1, start_ticks=1, name="far")


@dataclass(frozen=True)
class Stopped(Finished):
    """A submission that got a signal, and how long it took to leave then."""

    seconds: float


def stop_at(
    job: Job, moment: str, *more: str, env: Mapping[str, str] | None = None, number: int = signal.SIGTERM
) -> Stopped:
    """One submission that gets a signal when a line that it prints begins with `moment`."""
    slow = replace(job, env={**(job.env or {}), **(env or {})})
    with slow.start(*more) as process:
        begun = _read_until(process.stdout, moment)
        return _signalled(process, number, begun)


def _signalled(process: subprocess.Popen[str], number: int = signal.SIGTERM, begun: str = "") -> Stopped:
    """Send the signal and wait for the end; `begun`: what was read of stdout already."""
    signalled = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    return Stopped(process.returncode, begun + out, err, time.monotonic() - signalled)


def _read_until(stream: IO[str] | None, moment: str) -> str:
    assert stream is not None
    lines = []
    for line in stream:
        lines.append(line)
        if line.startswith(moment):
            return "".join(lines)
    pytest.fail(f"no {moment!r} in {lines}")


def assert_stopped(stopped: Stopped, name: str = "SIGTERM", *, code: int = 143, within: float = SOON_SECONDS) -> None:
    assert stopped.code == code, stopped.err
    assert stopped.err == STOPPED.format(name)
    assert stopped.seconds < within
    assert "Traceback" not in stopped.err


def assert_done(finished: Finished) -> None:
    assert (finished.code, finished.err) == (0, ""), finished.err


@pytest.fixture
def local(tmp_path: Path) -> Job:
    write_shards(tmp_path / "data")
    return Job(data_url=str(tmp_path / "data"), train_url=str(tmp_path / "run"), scratch=tmp_path, arguments=ARGUMENTS)


def write_shards(folder: Path) -> None:
    """Three for training, one for evaluation."""
    for number in range(3):
        write_shard(folder, f"{number}.jsonl", ["a", "b", "c"] * 30)
    write_shard(folder, "eval/0.jsonl", ["a", "b", "c"] * 20)


def test_a_stop_in_every_phase_is_continued_and_leaves_no_mark(local: Job, tmp_path: Path) -> None:
    run = open_store(local.train_url, writable=True)
    assert_stopped(stop_in_imports(local))
    early = len(attempts(run))  # it may have had the claim already
    assert not OutputFolder(run).records()
    assert_stopped(stop_at(local, "slow census", env={"SLOW_census": "0.002"}))
    stopped = stop_at(local, "slow train", "--retry_exit_code", "200", env={"SLOW_train": "0.05"})
    assert_stopped(stopped, code=200)
    assert_stopped(stop_at(local, "slow evaluate", env={"SLOW_evaluate": "0.05"}))
    stopped = stop_at(local, "slow train", env={"SLOW_train": "0.05"}, number=signal.SIGINT)
    assert (stopped.code, stopped.seconds < SOON_SECONDS) == (143, True)
    assert stopped.err.splitlines(True)[1:] == [STOPPED.format("SIGINT")]
    finished = stop_at(local, "done  ")
    assert_done(finished)
    told = attempts(run)
    assert [one["outcome"] for one in told] == ["stopped"] * (early + 4) + ["done"]
    assert [one["exit_code"] for one in told] == [143] * early + [143, 200, 143, 143, 0]
    calm = replace(local, train_url=str(tmp_path / "calm"))
    assert_done(calm.submit())
    assert_same_training(run, open_store(calm.train_url))


def stop_in_imports(job: Job) -> Stopped:
    """A signal while torch is being loaded, which is most of a start."""
    with job.start() as process:
        maps = Path(f"/proc/{process.pid}/maps")
        while "libtorch" not in maps.read_text():
            time.sleep(0.005)
        return _signalled(process)


@pytest.mark.parametrize("phase", ["census", "train", "evaluate"])
def test_the_time_limit_is_a_stop_in_every_phase(job: Inside, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    for path in job.data.iterdir():
        path.unlink()
    write_shards(job.data)
    job.arguments = ARGUMENTS
    monkeypatch.setenv(f"SLOW_{phase}", "0.2")
    limited = job.submit("--max_run_seconds", "0.8")
    assert (limited.code, limited.err) == (143, STOPPED.format("--max_run_seconds 0.8 reached"))
    assert f"slow {phase}" in limited.out
    assert limited.outcome["seconds"]["total"] < 0.8 + SOON_SECONDS
    assert ("stopped     saved ckpt_" in limited.out) == (phase != "census")
    monkeypatch.delenv(f"SLOW_{phase}")
    assert job.trained().outcome["epoch"] == 3


def test_of_two_at_once_one_runs_and_the_other_leaves_no_trace(local: Job) -> None:
    run = open_store(local.train_url, writable=True)
    slow = replace(local, env={"SLOW_train": "0.5"})
    with slow.start() as first:
        begun = _read_until(first.stdout, "slow train")
        second = slow.submit()
        assert_stopped(_signalled(first, begun=begun))
    assert (second.code, second.out) == (75, "")
    waits, error = second.err.splitlines()
    assert waits.startswith("perdure: warning: attempt 1 on ") and waits.endswith("; waiting for its sign of life")
    assert error.startswith("perdure: error: attempt 1 on ") and error.endswith(f"holds {run.url}; submit again later")
    assert [entry.key for entry in run.list("attempts/")] == [attempt_key(1), life_key(1)]


def test_a_stop_while_waiting_for_a_silent_holder_leaves_no_trace(local: Job) -> None:
    run = open_store(local.train_url, writable=True)
    silent = ClaimFile(attempt=1, nonce="n", host=ELSEWHERE, took_over=None, beat_seconds=0.5)
    run.put(attempt_key(1), seal(silent))
    run.put(life_key(1), b"7\n")
    with local.start("--claim_timeout_seconds", "600") as process:
        _read_until(process.stderr, f"perdure: warning: attempt 1 on far holds {run.url}; waiting for its sign of life")
        assert_stopped(stopped := _signalled(process))
    assert stopped.out == ""
    assert [entry.key for entry in run.list("attempts/")] == [attempt_key(1), life_key(1)]


class Slowness:
    """What a relay holds up: requests of a method whose path contains `part`, until `seconds` are over."""

    def __init__(self) -> None:
        self.method, self.part, self.seconds = "", "", 0.0
        self.begun = threading.Event()

    def hold(self, method: str, part: str, seconds: float) -> None:
        """From now on, and nothing else."""
        self.method, self.part, self.seconds = method, part, seconds
        self.begun.clear()

    def __call__(self, request: Request) -> int:
        if request.method == self.method and self.part in request.path:
            self.begun.set()
            time.sleep(self.seconds)
        return NO_FAULT


@dataclass(frozen=True)
class Bucket:
    """A job whose data and output lie behind a relay."""

    job: Job
    slowness: Slowness
    run: Store
    calm: Store

    def stop_while_held(self, method: str, part: str, *more: str, seconds: float = 30.0) -> Stopped:
        """One submission that gets SIGTERM while such a request hangs."""
        self.slowness.hold(method, part, seconds)
        with self.job.start(*more) as process:
            while not self.slowness.begun.wait(0.05):
                assert process.poll() is None, process.communicate()
            stopped = _signalled(process)
        self.slowness.hold("", "", 0.0)
        return stopped


@pytest.fixture
def bucket(tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    url = s3_server.make_bucket(f"stops-{tmp_path.name.replace('_', '-')[-40:]}")
    write_shards(tmp_path)
    options = StoreOptions(endpoint_url=s3_server.endpoint_url)
    data = open_store(f"{url}/data", options, writable=True)
    for path in tmp_path.rglob("*.jsonl"):
        data.put(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    run, calm = (open_store(f"{url}/{name}", options, writable=True) for name in ("run", "calm"))
    slowness = Slowness()
    with relaying(Relay(s3_server.endpoint_url, slowness)) as relay:
        # So small a cache holds two shards: each pass fetches again.
        size = max(path.stat().st_size for path in tmp_path.rglob("*.jsonl"))
        cache = ("--cache_dir", str(tmp_path / "cache"), "--cache_bytes", str(2 * size))
        job = Job(
            data_url=f"{url}/data", train_url=f"{url}/run", scratch=tmp_path, arguments=(*ARGUMENTS, *cache),
            env={**s3_server.env, "AWS_ENDPOINT_URL": relay.url},
        )  # fmt: skip
        yield Bucket(job, slowness, run, calm)


def test_a_stop_while_a_store_hangs_or_is_slow_is_continued_and_leaves_no_mark(bucket: Bucket) -> None:
    assert_stopped(bucket.stop_while_held("GET", "/data/2.jsonl"))  # in the census
    assert_stopped(bucket.stop_while_held("PUT", "ckpt_1-a2.pth", seconds=3.0), within=3 + SOON_SECONDS)
    hung = bucket.stop_while_held("PUT", "-a3.pth", "--grace_seconds", "3")
    assert (hung.code, hung.seconds < 3 + SOON_SECONDS) == (143, True)
    assert hung.err.startswith("perdure: error: stopped by SIGTERM, and not done within --grace_seconds 3: ")
    assert_left_at_once(bucket)
    assert_done(bucket.job.submit())
    told = attempts(bucket.run)
    assert [one.get("outcome") for one in told] == ["stopped", "stopped", "stopped", None, "done"]
    calm = replace(bucket.job, train_url=bucket.calm.url)
    assert_done(calm.submit())
    assert_same_training(bucket.run, bucket.calm)


def assert_left_at_once(bucket: Bucket) -> None:
    """Ctrl-C, and once more because the first one waits for an upload."""
    bucket.slowness.hold("PUT", "-a4.pth", 30.0)
    with bucket.job.start() as process:
        while not bucket.slowness.begun.wait(0.05):
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        left = _signalled(process, signal.SIGINT)
    bucket.slowness.hold("", "", 0.0)
    assert (left.code, left.seconds < SOON_SECONDS) == (143, True)
    assert [line.partition(";")[0] for line in left.err.splitlines()] == [
        "perdure: stopping at the next step",
        "perdure: left at once",
    ]


def test_a_round_whose_last_state_could_not_be_saved_is_not_done(job: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop at the very end, when an upload takes longer than the time that is left: 143, and the rest comes later."""
    save = Saver.save

    def stopped_at_the_end(saver: Saver, content: Any, *more: Any) -> None:
        if content["epoch"] == 2:
            saver._costs.publish_seconds = 100.0
            saver._stop.request("SIGTERM")
        save(saver, content, *more)

    with monkeypatch.context() as patched:
        patched.setattr(Saver, "save", stopped_at_the_end)
        said = job.submit("--epochs", "2")
    assert (said.code, said.outcome["outcome"]) == (143, "stopped"), said.err
    assert not any(name.startswith("ckpt_2") for name in job.checkpoints())
    assert not (job.run / "model").exists()
    assert job.trained("--epochs", "2").outcome["epoch"] == 2
