"""Where disturbed runs take place: shards, a calm run to compare with, and what must hold of an output folder."""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cloud.folder import OutputFolder
from cloud.names import CheckpointName
from cloud.open import StoreOptions, open_store
from cloud.store import Store
from cloud.urls import join_url
from entrypoint.rebuild import read_ledger
from tests.crash.counted import Counted, write_counted
from tests.crash.forks import Forks
from tests.crash.submission import Submission
from tests.crash.tripwire import Kill
from tests.e2e.submit import assert_same_training, newest
from tests.servers import S3Server
from trainer.ledger import Ledger
from trainer.parts import indices_of, parts_of

EPOCHS = 2
ARGUMENTS = (
    "--task", "tests.crash.counted:Counted", "--epochs", str(EPOCHS), "--finetune_epochs", str(EPOCHS),
    "--batch_size", "8", "--learning_rate", "0.01", "--threads", "1", "--save_every_seconds", "0.001",
    "--keep_last", "2", "--claim_timeout_seconds", "1",
)  # fmt: skip
SHARDS: Mapping[int, Mapping[str, tuple[range, str]]] = {
    1: {
        **{f"a{number}.jsonl": (range(32 * number, 32 * number + 32), "abc") for number in range(3)},
        "eval/0.jsonl": (range(900, 924), "abc"),
    },
    2: {"b0.jsonl": (range(200, 232), "bd"), "eval/1.jsonl": (range(930, 942), "bd")},
    3: {"c0.jsonl": (range(300, 316), "ae")},
}
"""What each round brings: the ids and labels of each shard. The third lets a run clean up after the second."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One kind of place: the data, and a calm run after two rounds and after three. `server` None: local folders."""

    folder: Path
    server: S3Server | None
    bucket: str
    arguments: tuple[str, ...]

    @property
    def data_url(self) -> str:
        """All shards of all rounds."""
        return join_url(self.bucket, "data") if self.server else str(self.folder / "data")

    def calm_url(self, num_rounds: int) -> str:
        """The calm run after so many rounds; always a local folder."""
        return str(self.folder / f"calm{num_rounds}")

    def store(self, url: str) -> Store:
        """A folder, for looking at it."""
        return open_store(url, self.options, writable=True)

    @property
    def options(self) -> StoreOptions:
        """How the server is reached."""
        return StoreOptions(endpoint_url=self.server.endpoint_url if self.server else None, region="us-east-1")

    def prepare(self, forks: Forks) -> None:
        """Write the shards round by round, and train each calmly."""
        growing = self.folder / "growing"
        run = Run(self, "calm", url=str(self.folder / "calm"))
        for number, shards in SHARDS.items():
            for key, (ids, labels) in shards.items():
                write_counted(growing / key, ids, labels)
            code = run.submit(forks, data_url=str(growing))
            assert code == 0, run.said()
            shutil.copytree(self.folder / "calm", self.calm_url(number))
        if self.server is None:
            growing.rename(self.folder / "data")
            return
        data = self.store(self.data_url)
        for path in growing.rglob("*.jsonl"):
            data.put(path.relative_to(growing).as_posix(), path.read_bytes())


@dataclass
class Run:
    """One output folder on a ground, and the temporary folder of all processes that write it."""

    ground: Ground
    name: str
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.ground.folder / "runs" / self.name
        self.scratch.mkdir(parents=True)
        if not self.url:
            self.url = join_url(self.ground.bucket, self.name) if self.ground.server else str(self.folder / "run")

    @property
    def scratch(self) -> Path:
        """The temporary folder."""
        return self.folder / "tmp"

    @property
    def store(self) -> Store:
        """The output folder."""
        return self.ground.store(self.url)

    def submission(self, *more: str, kill: Kill | None = None, data_url: str = "", patch: str = "") -> Submission:
        """The same job as always."""
        urls = ("--data_url", data_url or self.ground.data_url, "--train_url", self.url)
        env = {**(self.ground.server.env if self.ground.server else {}), **self.env}
        return Submission(
            argv=[*urls, *self.ground.arguments, *more], log=str(self.folder / "log"), note=str(self.folder / "note"),
            env={**env, "TMPDIR": str(self.scratch)}, kill=kill, patch=patch,
        )  # fmt: skip

    def submit(
        self, forks: Forks, num_rounds: int = 0, kill: Kill | None = None, data_url: str = "", patch: str = ""
    ) -> int:
        """One submission to its end; its rounds are those of the calm run, as far as `num_rounds`."""
        rounds = ("--rounds_from", self.ground.calm_url(num_rounds)) if num_rounds else ()
        forks.start(self.submission(*rounds, kill=kill, data_url=data_url, patch=patch))
        return forks.wait()

    def said(self) -> str:
        """The end of what its submissions printed."""
        path = self.folder / "log"
        return path.read_text()[-3000:] if path.exists() else ""

    def remove(self) -> None:
        """Make room."""
        if self.ground.server:
            for entry in self.store.list():
                self.store.delete(entry.key)
        shutil.rmtree(self.folder)


def check_whole(store: Store) -> int:
    """Every record's object and ledgers are there, every byte of them; how many records there are."""
    records = OutputFolder(store)
    found = records.records()
    assert not records.rejected, records.rejected
    for record in found:
        for file in (*record.parts, *record.ledgers):
            data = store.read(file.key)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, *file.chunks), (record.name, file.key)
    return len(found)


def check_exact(run: Run, num_rounds: int) -> None:
    """After so many rounds: net and optimizer are those of the calm run, and each example came as often as planned."""
    calm = run.ground.store(run.ground.calm_url(num_rounds))
    assert_same_training(run.store, calm)
    times = newest(run.store)["net"]["times"]
    assert torch.equal(times, planned_times(run, len(times))), times


def planned_times(run: Run, num_counted: int) -> torch.Tensor:
    """How often each example is to be trained, by the run's ledger alone: int64 of shape (num_counted,)."""
    folder = OutputFolder(run.store)
    ledger = read_ledger(folder, folder.records()[0])
    data, task, path = run.ground.store(run.ground.data_url), Counted(), run.folder / "shard.jsonl"
    times = torch.zeros(num_counted, dtype=torch.int64)
    for part in _all_parts(ledger):
        path.write_bytes(data.read(part.shard.key))
        examples = task.read(path)
        for index in indices_of(part, task, examples).tolist():
            times[examples[index]["id"]] += EPOCHS
    return times


def _all_parts(ledger: Ledger) -> Iterable:
    return (part for number in range(1, len(ledger) + 1) for part in parts_of(ledger.round(number)))


def check_clean(run: Run, max_slots: int = 1) -> None:
    """Nothing is left behind: in the output folder, in its `.partial/`, on the server, in the temporary folder.

    `max_slots`: how many submissions ran at once at most, each with a part of the cache of its own.
    """
    keys = {entry.key for entry in run.store.list()}
    records = OutputFolder(run.store).records()
    named = {file.key for record in records for file in (*record.parts, *record.ledgers)}
    named |= {CheckpointName.parse(record.name).record_key for record in records}  # type: ignore[union-attr]
    strangers = [key for key in keys - named if not key.startswith(("attempts/", "metrics/", "model/"))]
    assert strangers == [], "leftovers in the output folder"
    assert len(records) <= 5, [record.name for record in records]
    # Python itself tries a temporary folder with a file of a few bytes; who dies in that moment leaves it, empty.
    found = [path for path in run.scratch.iterdir() if path.is_dir() or path.stat().st_size]
    left = [path.name for path in found if not path.name.startswith("perdure-cache-")]
    assert left == [], "leftovers in the temporary folder"
    slots = [path.relative_to(run.scratch).as_posix() for path in run.scratch.glob("perdure-cache-*/*")]
    assert len(slots) <= max_slots, slots
    assert list(run.scratch.rglob("*.partial")) == []
    assert unfinished_uploads(run) == []
    if run.ground.server is None:
        assert list((Path(run.url) / ".partial").iterdir()) == []


def unfinished_uploads(run: Run) -> list[str]:
    """Keys of uploads that the server has parts of."""
    if run.ground.server is None:
        return []
    bucket, _, prefix = run.url.removeprefix("s3://").partition("/")
    found = run.ground.server.client.list_multipart_uploads(Bucket=bucket, Prefix=prefix + "/")
    return [upload["Key"] for upload in found.get("Uploads", ())]
