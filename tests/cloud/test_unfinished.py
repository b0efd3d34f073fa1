"""What killed processes had begun to send to a bucket: aborted by a later attempt, and by nobody else."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import pytest

from cloud.open import StoreOptions, open_store
from cloud.pruning import Keeping
from cloud.store import Store
from cloud.wrapped import Wrapped
from tests.cloud.folders import held, publish
from tests.cloud.places import new_memory_store
from tests.servers import S3Server

KEEPING = Keeping(last=2, best=0, every=0, score=lambda record: None)
DIES = """
import os, sys, time
from cloud import objects
from cloud.open import StoreOptions, open_store
objects.PART_BYTES = 5 * 2**20
writers = []  # one that is forgotten is left in order
for url in sys.argv[2:]:
    folder, _, key = url.rpartition("/")
    writers.append(open_store(folder, StoreOptions(endpoint_url=sys.argv[1], region="us-east-1")).writer(key))
    writers[-1].__enter__().write(bytes(6 * 2**20))
time.sleep(0.3)
os._exit(137)
"""


@pytest.fixture(params=["s3", "obs"])
def options(request: pytest.FixtureRequest, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> StoreOptions:
    """How the bucket is reached; obs://, with the bucket in the host name, through a proxy."""
    env: Mapping[str, str] = s3_server.env
    endpoint = s3_server.endpoint_url
    if request.param == "obs":
        endpoint = s3_server.virtual_endpoint_url
        proxy = {"http_proxy": s3_server.endpoint_url, "HTTP_PROXY": s3_server.endpoint_url}
        env = {**env, **proxy, "no_proxy": "", "NO_PROXY": ""}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return StoreOptions(endpoint_url=endpoint, region="us-east-1")


def url(options: StoreOptions, s3_server: S3Server, folder: str) -> str:
    scheme = "s3" if options.endpoint_url == s3_server.endpoint_url else "obs"
    s3_server.make_bucket_once("unfinished")
    return f"{scheme}://unfinished/{scheme}/{folder}/"


def unfinished(server: S3Server) -> list[str]:
    found = server.client.list_multipart_uploads(Bucket="unfinished").get("Uploads", ())
    return sorted(upload["Key"].partition("/")[2] for upload in found)


def die_sending(options: StoreOptions, *urls: str) -> None:
    command = [sys.executable, "-c", DIES, str(options.endpoint_url), *urls]
    assert subprocess.run(command, check=False, env={**os.environ}).returncode == 137


def abort_all(store: Store) -> int:
    return store.discard_unfinished(lambda key: True)


def test_what_earlier_attempts_left_unfinished_goes_and_nothing_else(
    options: StoreOptions, s3_server: S3Server
) -> None:
    run, other = (open_store(url(options, s3_server, name), options, writable=True) for name in ("run", "run-2"))
    before = len(unfinished(s3_server))
    names = ("ckpt_3-a1.pth", "ckpt_9-a9.pth", "somebody.pth")
    die_sending(options, *(run.url + name for name in names), f"{other.url}ckpt_3-a1.pth")
    assert len(unfinished(s3_server)) == before + 4
    held(run).claim.stop_beating()
    folder = held(run)  # attempt 2
    publish(folder, 1)
    folder.prune(KEEPING)
    assert len(unfinished(s3_server)) == before + 4  # nothing before two commits of its own
    publish(folder, 2)
    folder.prune(KEEPING)
    assert unfinished(s3_server) == ["run-2/ckpt_3-a1.pth", "run/ckpt_9-a9.pth", "run/somebody.pth"]
    assert (abort_all(run), abort_all(other), abort_all(other), unfinished(s3_server)) == (2, 1, 0, [])


def test_only_attempts_after_the_first_look_once_for_what_is_unfinished() -> None:
    class Asked(Wrapped):
        times = 0

        def discard_unfinished(self, which: Callable[[str], bool]) -> int:
            self.times += 1
            return super().discard_unfinished(which)

    store = Asked(new_memory_store())
    for first, times in ((1, 0), (4, 1)):
        folder = held(store)
        for epoch in (first, first + 1, first + 2):
            publish(folder, epoch)
            folder.prune(KEEPING)
        assert store.times == times
        folder.claim.stop_beating()


def test_what_may_not_be_listed_stays_and_is_no_error(
    s3_server: S3Server, options: StoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(url(options, s3_server, "denied"), options)
    die_sending(options, f"{store.url}ckpt_3-a1.pth")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    started = time.monotonic()
    assert (abort_all(store), time.monotonic() - started < 10) == (0, True)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.env["AWS_SECRET_ACCESS_KEY"])
    assert abort_all(store) == 1
