"""Catalog of a million known shards with ten new ones: what a submission lists, and what it compares it with.

python -m tests.benchmarks.catalog [--pairs N] [--tiny]

The store is a local server that lists and holds nothing (`listing_server.py`): 1,000 objects a page, as every cloud.
With --shard_keys_grow one request finds all where it is known that the server lists in the order of keys: Google's does
(gs://), and Amazon's. Any other S3 may list a folder `0001/` before `0001.csv`, so that a new one would be missed: each
folder whose name begins the last key is asked for too, at the same time. Keys that sort after "eval/" take one more
request, for evaluation shards, which promise nothing.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from obstore.store import S3Store

from cloud.cache import ShardCache
from cloud.open import StoreOptions, open_store
from cloud.sealed import seal_lines, unseal_lines
from entrypoint.census import Census
from entrypoint.console import Console
from entrypoint.report import Report
from entrypoint.rounds import Rounds
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from tests.benchmarks.listing_server import etag, key, size
from tests.benchmarks.measured import Case, Figures, measured
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from trainer.ledger import Ledger, Round, Shard
from trainer.opened import OpenShards
from trainer.task import make_task

NUM_NEW = 10
DATA = "s3://bench/data/"
WIDE = f"{Path(__file__).with_name('wide_task.py')}:Wide"
ENV = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    "GOOGLE_SKIP_SIGNATURE": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
GROWS, LISTS, BARE = "perdure, --shard_keys_grow", "perdure, all listed", "obstore lists all, nothing compared"
UNORDERED = "perdure, --shard_keys_grow, S3 in any order"


def tables(options: Options) -> Iterator[Table]:
    """Seconds, memory and requests of the catalog alone: from an open ledger to what is new."""
    num_known = options.size(1_000_000, 3_000)
    with (
        tempfile.TemporaryDirectory() as name,
        serving(num_known + NUM_NEW) as url,
        patch.dict(os.environ, ENV, AWS_ENDPOINT_URL=url),
    ):
        options.child(write_ledger, name, num_known)()
        cases = {
            GROWS: options.child(look, name, "gs", True),
            UNORDERED: options.child(look, name, "s3", True),
            LISTS: options.child(look, name, "s3", False),
            BARE: options.child(list_all),
        }
        yield Table(
            title=f"catalog, {num_known:,} known shards, {NUM_NEW} new",
            cases={case: partial(_with_requests, run, url) for case, run in cases.items()},
            ours=GROWS,
            goals=[
                Goal(says="at most 2 s with --shard_keys_grow", most=2.0),
                Goal(says="one request with --shard_keys_grow", figure="requests", most=1),
                Goal(says="at most 200 MB beyond the start, all listed", figure="peak_bytes", most=200e6, case=LISTS),
            ],
            warms_up=False,
        )


def write_ledger(folder: str, num_known: int) -> Figures:
    """The ledger of round 1, as the job writes it."""
    shards = tuple(
        Shard(key=key(number), size=size(number), sha256=hashlib.sha256(key(number).encode()).hexdigest(),
              version=etag(number), num_read=10, num_examples=10, labels={"0": 5, "1": 5})
        for number in range(num_known)
    )  # fmt: skip
    data = seal_lines(Round(number=1, settings={}, window_bytes=2**30, labels=("0", "1"), shards=shards).to_lines())
    (Path(folder) / "ledger").write_bytes(data)
    return {"ledger_bytes": len(data)}


def look(folder: str, scheme: str, grows: bool) -> Figures:
    """What `Rounds.look` makes of the listing and the ledger."""
    url = DATA.replace("s3", scheme)
    config = JobConfig(data_url=url, train_url="./run", task=WIDE, shard_keys_grow=grows)
    with Path(os.devnull).open("w") as nowhere, tempfile.TemporaryDirectory() as cache_folder:
        store = open_store(url, StoreOptions(endpoint_url=os.environ["AWS_ENDPOINT_URL"]))
        console, stop = Console("json", out=nowhere, err=nowhere), Stop()
        cache = ShardCache(store, Path(cache_folder), 2**30)
        census = Census(config, store, cache, OpenShards(make_task(WIDE, {}), cache, 2**30), console, stop)
        rounds = Rounds(config, census, Report(console, time.monotonic()), {})
        data, found = (Path(folder) / "ledger").read_bytes(), []
        figures = measured(lambda: found.append(rounds.look(Ledger((lambda: unseal_lines(data),)))))
    changes = found[0]
    assert len(changes.appended) == NUM_NEW, changes
    assert not (changes.changed or changes.removed)
    return {**figures, "known": changes.num_same}


def list_all() -> Figures:
    """Every page, and nothing else."""
    store = S3Store("bench", prefix="data/", endpoint=os.environ["AWS_ENDPOINT_URL"])
    found: list[int] = []
    figures = measured(lambda: found.extend(len(page) for page in store.list(chunk_size=1000)))
    return {**figures, "known": sum(found) - NUM_NEW}


def _with_requests(case: Case, url: str) -> Figures:
    before = _requests(url)
    return {**case(), "requests": _requests(url) - before}


def _requests(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/requests") as answer:
        return int(answer.read())


@contextmanager
def serving(num_objects: int, num_indexed: int = 0) -> Iterator[str]:
    """The listing server's URL."""
    command = [sys.executable, "-m", "tests.benchmarks.listing_server", str(num_objects), str(num_indexed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


if __name__ == "__main__":
    main(tables)
