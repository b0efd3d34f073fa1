"""The main story as processes: stopped, killed, continued, appended to, and in the end exact to the bit."""

import random
import signal
from pathlib import Path

import pytest

from cloud.open import StoreOptions, open_store
from cloud.store import Store
from tests.e2e.submit import TINY, Job, append, assert_same_training, attempts, make_data
from tests.servers import S3Server

ARGUMENTS = (*TINY, "--epochs", "20", "--batch_size", "16", "--micro_batch_size", "8", "--set", "dropout=0.2")
NUM_KILLS = 3
"""At random moments; tests/crash kills in every phase."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_data(tmp_path)
    return tmp_path


def test_stopped_continued_appended_and_nothing_new_on_a_local_folder(data):
    job = Job(data_url=str(data / "data"), train_url=str(data / "run"), scratch=data, arguments=ARGUMENTS)
    tell_the_story(job, data, open_store(job.train_url))


def test_the_same_story_on_s3(data, s3_server: S3Server):
    bucket = s3_server.make_bucket("story")
    job = Job(
        data_url=str(data / "data"), train_url=f"{bucket}/run", arguments=ARGUMENTS, scratch=data, env=s3_server.env
    )
    tell_the_story(job, data, s3_store(job.train_url, s3_server))


def tell_the_story(job: Job, data: Path, run: Store) -> None:
    """Stop in the middle of an epoch, continue, append, train what is new, find nothing new."""
    stopped = job.stop_when("epoch       3")
    assert (stopped.code, stopped.err.count("\n")) == (143, 1), stopped.err
    finished = job.submit()
    assert finished.code == 0, finished.err
    assert "round 1: 20 epochs over 300 new from example" in finished.out
    append(data)
    grown = job.submit()
    assert grown.code == 0, grown.err
    assert "4 shards as before, 2 new shards and 1 for evaluation: 40 examples, new label '6'" in grown.out
    assert "round 2: 4 epochs over 40 new + 10 old" in grown.out
    nothing = job.submit()
    assert nothing.code == 0, nothing.err
    assert "nothing new since epoch 24" in nothing.out
    told = attempts(run)
    assert [one["outcome"] for one in told] == ["stopped", "done", "done", "nothing_new"]
    assert [one["exit_code"] for one in told] == [143, 0, 0, 0]
    assert told[1]["first_global_step"] == told[0]["last_global_step"] > 0
    assert told[1]["resumed_from"].endswith("-a1")
    assert told[2]["appended_shards"] == ["eval/6.tar", "new-0.tar", "new-1.tar"]
    assert sum(one["num_examples_trained"] for one in told) == 20 * 300 + 4 * 50
    assert all(one["seconds"]["total"] > 0 for one in told)


def test_killed_at_random_moments_it_ends_as_if_it_never_was(data):
    job = Job(data_url=str(data / "data"), train_url=str(data / "run"), scratch=data, arguments=ARGUMENTS)
    killed_and_undisturbed_agree(job, data, open_store(job.train_url), open_store(str(data / "calm"), writable=True))


def test_killed_at_random_moments_against_s3_it_ends_as_if_it_never_was(data, s3_server: S3Server):
    bucket = s3_server.make_bucket("killed")
    arguments = (*ARGUMENTS, "--cache_dir", str(data / "cache"))
    job = Job(
        data_url=f"{bucket}/data", train_url=f"{bucket}/run", arguments=arguments, scratch=data, env=s3_server.env
    )
    upload(data / "data", s3_store(job.data_url, s3_server))
    run, calm = s3_store(job.train_url, s3_server), s3_store(f"{bucket}/calm", s3_server)
    killed_and_undisturbed_agree(job, data, run, calm)


def killed_and_undisturbed_agree(job: Job, data: Path, run: Store, calm: Store) -> None:
    """Kills over two rounds, then an undisturbed run that takes its rounds from the killed one."""
    chance = random.Random(str(job.train_url))
    num_killed = num_submitted = 0
    appended = False
    while num_killed < NUM_KILLS:
        num_submitted += 1
        ended = job.submit_and_signal(signal.SIGKILL, chance.uniform(0.5, 4.0))
        assert ended.code in (0, -signal.SIGKILL), ended.err
        num_killed += ended.code == -signal.SIGKILL
        if not appended and (ended.code == 0 or num_killed == NUM_KILLS // 2):
            append_to(job, data)
            appended = True
        assert num_submitted < 20 * NUM_KILLS
    last = job.submit()
    assert last.code == 0, last.err
    undisturbed = Job(data_url=job.data_url, train_url=calm.url, scratch=data, arguments=job.arguments, env=job.env)
    alone = undisturbed.submit("--rounds_from", job.train_url)
    assert alone.code == 0, alone.err
    assert len(attempts(calm)) == 1
    assert_same_training(run, calm)


def append_to(job: Job, data: Path) -> None:
    append(data)
    if job.env is not None:
        server_options = StoreOptions(endpoint_url=job.env["AWS_ENDPOINT_URL"])
        upload(data / "data", open_store(job.data_url, server_options, writable=True))


def upload(folder: Path, store: Store) -> None:
    """Copy a folder's files into a store."""
    for path in sorted(folder.rglob("*.tar")):
        store.put(path.relative_to(folder).as_posix(), path.read_bytes())


def s3_store(url: str, server: S3Server) -> Store:
    """A store of this process, which knows the server's keys from the test's own environment."""
    return open_store(url, StoreOptions(endpoint_url=server.endpoint_url), writable=True)


@pytest.fixture(autouse=True)
def credentials(monkeypatch, request):
    if "s3_server" in request.fixturenames:
        for name, value in request.getfixturevalue("s3_server").env.items():
            monkeypatch.setenv(name, value)
