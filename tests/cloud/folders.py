"""Output folders for the tests: attempts that commit something small, and time that only sleeping moves."""

from pathlib import Path
from uuid import uuid4

import pytest

from cloud.claim import Claim, claim
from cloud.held import HeldFolder
from cloud.open import StoreOptions, open_store
from cloud.records import Outcome, Record
from cloud.store import Store, Writer
from tests.cloud.places import new_memory_store
from tests.cloud.wrappers import Far, PutOnly
from tests.servers import S3Server

DONE = Outcome(outcome="done", exit_code=0)


def new_folder(kind: str, request: pytest.FixtureRequest) -> Store:
    """An empty output folder: "local", "memory" or "s3"; "far local" is not read in place, "put-only s3" is as OBS."""
    wrapper, _, place = kind.rpartition(" ")
    store = _opened(place, request)
    return {"": lambda: store, "far": lambda: Far(store), "put-only": lambda: PutOnly(store)}[wrapper]()


def _opened(place: str, request: pytest.FixtureRequest) -> Store:
    if place == "memory":
        return new_memory_store()
    if place == "local":
        path: Path = request.getfixturevalue("tmp_path")
        return open_store(str(path / "run"), writable=True)
    server: S3Server = request.getfixturevalue("s3_server")
    environment: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    for variable, value in server.env.items():
        environment.setenv(variable, value)
    options = StoreOptions(endpoint_url=server.endpoint_url, region="us-east-1")
    return open_store(f"{server.make_bucket_once('folders')}/{uuid4().hex}/", options, writable=True)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.longest = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        self.now += seconds


def claimed(store: Store) -> Claim:
    """A claim without further signs of life; a silent holder is replaced without really waiting."""
    time = Time()
    one = claim(store, clock=time.clock, sleep=time.sleep)
    one.stop_beating()
    return one


def held(store: Store) -> HeldFolder:
    return HeldFolder(store, claimed(store))


def publish(folder: HeldFolder, epoch: int, step: int | None = None, data: bytes = b"state of a network") -> Record:
    """Commit a checkpoint with a ledger of one shard."""

    def produce(writer: Writer) -> None:
        writer.write(data)

    ledger = folder.write_ledger(1, [{"key": "a.tar"}])
    steps = epoch * 100 if step is None else step
    return folder.publish(epoch, step, produce, global_step=steps, round=1, ledgers=(ledger,), metrics={}, settings={})


def attempts(store: Store, *epochs: int) -> None:
    """One attempt for each epoch, which commits it and ends."""
    for epoch in epochs:
        folder = held(store)
        publish(folder, epoch, data=b"state of epoch %d" % epoch)
        folder.claim.finish(DONE)
