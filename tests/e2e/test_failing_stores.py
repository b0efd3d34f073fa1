"""Stores that fail while a job trains: nothing is lost, the exit code is right, and the end is exact to the bit."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import cloud.backends
import cloud.objects
from cloud.folder import OutputFolder
from cloud.open import StoreOptions, open_store
from cloud.store import Store
from tests.e2e.inside import Inside
from tests.e2e.submit import assert_same_training
from tests.e2e.test_bad_input import mounted, run
from tests.relay import NO_FAULT, RESET, Relay, Request, relaying
from tests.servers import ACCESS_KEY, ROTATED_KEY, SECRET_KEY, S3Server
from tests.trainer.toy import Toy, write_shard
from trainer.vocabulary import Vocabulary

ARGUMENTS = (
    *("--task", "tests.e2e.test_failing_stores:Acting", "--epochs", "3", "--batch_size", "16"),
    *("--learning_rate", "0.01", "--threads", "1", "--save_every_seconds", "0.05"),
)


class Acting(Toy):
    """Does something at the n-th forward pass in training: `acts[n]`."""

    acts: ClassVar[dict[int, Callable[[], object]]] = {}
    passes: ClassVar[int] = 0

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        Acting.passes += 1
        Acting.acts.get(Acting.passes, lambda: None)()
        return super().loss(net, batch)


class Rows(Sequence[Any]):
    """Examples whose file is opened for each of them."""

    def __init__(self, path: Path, rows: Sequence[Any]) -> None:
        self.path, self.rows = path, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        Lazy.num_left -= 1
        if Lazy.num_left == 0:
            self.path.unlink()
        with self.path.open():
            return self.rows[index]


class Lazy(Acting):
    """Does not read a shard before its examples are asked for; after `num_left` of them a shard is gone."""

    num_left: ClassVar[int] = 0

    def read(self, path: Path) -> Sequence[Any]:
        return Rows(path, super().read(path))


class Vanishing(Acting):
    """Of two shards, one is taken away by somebody before it is read."""

    def read(self, path: Path) -> Sequence[Any]:
        if path.name == "1.jsonl":
            path.unlink()
        return super().read(path)


class Heavy(Acting):
    """Its state is two parts of an upload."""

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        net = super().build(vocabulary)
        net.register_buffer("ballast", torch.arange(1_500_000, dtype=torch.float32))
        return net


@dataclass
class Faults:
    """What a relay answers to requests of `method` whose path contains `part`, while `answer` is set."""

    method: str = ""
    part: str = ""
    answer: Callable[[Request], int] | None = None
    num: int = 0

    def __call__(self, request: Request) -> int:
        if self.answer is None or self.method not in request.method or self.part not in request.path:
            return NO_FAULT
        self.num += 1
        return self.answer(request)

    def begin(self, method: str, part: str, answer: Callable[[Request], int]) -> None:
        self.method, self.part, self.num = method, part, 0
        self.answer = answer

    def end(self) -> None:
        self.answer = None


@dataclass
class Failing:
    """A job over local data, whose output folder lies behind a relay."""

    job: Inside
    faults: Faults
    relay: Relay
    server: S3Server
    url: str
    store: Store
    notes: list[str] = field(default_factory=list)

    def submit(self, *more: object, acts: dict[int, Callable[[], object]] | None = None) -> Any:
        """One submission; `acts`: what happens at which forward pass of it."""
        Acting.passes, Acting.acts = 0, acts or {}
        return self.job.submit(*more, "--endpoint_url", self.relay.url, run=self.url)

    def assert_exact(self) -> None:
        """The training ended where an undisturbed one in another folder does."""
        Acting.acts = {}
        assert self.job.submit(run=self.job.run).code == 0
        assert_same_training(self.store, open_store(str(self.job.run)))

    def attempts(self) -> list[str]:
        return [entry.key for entry in self.store.list("attempts/") if entry.key.endswith(".json")]


@pytest.fixture
def toy(job: Inside) -> Inside:
    for path in job.data.iterdir():
        path.unlink()
    for number in range(2):
        write_shard(job.data, f"{number}.jsonl", ["a", "b", "c"] * 20)
    job.arguments = ARGUMENTS
    return job


@pytest.fixture
def failing(toy: Inside, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    url = f"{s3_server.make_bucket_once('failing')}/{tmp_path.name}"
    faults = Faults()
    with relaying(Relay(s3_server.endpoint_url, faults)) as relay:
        store = open_store(url, StoreOptions(endpoint_url=s3_server.endpoint_url), writable=True)
        yield Failing(toy, faults, relay, s3_server, url, store)


def slow(first: int, last: int) -> dict[int, Callable[[], object]]:
    """Steps in which a checkpoint becomes due."""
    return {number: lambda: time.sleep(0.1) for number in range(first, last + 1)}


def names(store: Store) -> list[str]:
    return [record.name for record in OutputFolder(store).records()]


def test_training_goes_on_in_a_storm_of_503_and_resets_and_ends_as_without_one(failing: Failing) -> None:
    seen: list[int] = []

    def storm() -> None:
        failing.faults.begin("P", "ckpt_", lambda request: RESET if failing.faults.num % 2 else 503)

    def note() -> None:
        while not failing.faults.num:
            time.sleep(0.02)
        time.sleep(2.0)  # the training is in no hurry
        seen.append(failing.faults.num)

    said = failing.submit(acts={3: storm, **slow(4, 7), 8: note, 16: note, 18: failing.faults.end})
    assert said.code == 0, said.err
    assert 0 < seen[0] <= seen[1] < 60, "it is tried again, with pauses"
    (warning,) = said.err.splitlines()
    assert warning.startswith("perdure: warning: publishing fails: ") and "training goes on" in warning
    assert "the store works again" in said.out
    failing.assert_exact()


def test_what_no_store_takes_waits_on_this_machine_for_the_next_submission(failing: Failing, tmp_path: Path) -> None:
    begin = {3: lambda: failing.faults.begin("P", "ckpt_", lambda request: 503)}
    said = failing.submit("--max_unpublished_seconds", "0.5", "--epochs", "3", acts=begin)
    assert (said.code, names(failing.store)) == (74, [])
    text = said.err.splitlines()[-1]
    folder = Path(text.partition(", is saved in ")[2].partition(": submit again")[0])
    (left,) = names(open_store(str(folder)))
    assert f"the newest state, {left}, is saved" in text
    failing.faults.end()
    again = failing.submit()
    assert again.code == 0, again.err
    assert f"{left}, saved in {folder}, is now {left[:-1]}2" in again.out
    assert not folder.exists()
    failing.assert_exact()


def test_it_is_not_taken_for_another_folder_nor_before_what_came_later(failing: Failing, tmp_path: Path) -> None:
    begin = {3: lambda: failing.faults.begin("P", "ckpt_", lambda request: 503)}
    assert failing.submit("--max_unpublished_seconds", "0", acts=begin).code == 74
    (folder,) = Path(str(failing.job.run.parent)).rglob("unpublished/*")
    shutil.copytree(folder, tmp_path / "kept")
    failing.faults.end()
    for entry in list(failing.store.list()):  # somebody begins anew
        failing.store.delete(entry.key)
    said = failing.submit()
    assert "saved for a folder that is gone" in said.err and "none: a new run" in said.out


def test_a_server_that_is_killed_in_every_phase_costs_nothing_but_time(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud.objects, "PART_BYTES", 5 * 2**20)  # the least that servers take
    failing.job.arguments = (*(word.replace("Acting", "Heavy") for word in ARGUMENTS), "--epochs", "5")
    phases = [("PUT", "partNumber"), ("PUT", "-a1.json"), ("GET", "list-type"), ("DELETE", "ckpt_"), ("GET", ".pth")]
    killed: list[str] = []
    busy = threading.Lock()

    def kill(request: Request) -> int:
        with busy:
            if failing.faults.answer is kill:
                failing.faults.end()
                killed.append(f"{request.method} {request.path}")
                assert failing.server.process is not None
                failing.server.process.kill()
                failing.server.stop()
                failing.server.start()
        return RESET

    def arm(number: int) -> Callable[[], None]:
        def act() -> None:
            while len(killed) < number:
                time.sleep(0.02)
            failing.faults.begin(*phases[number], kill)
            time.sleep(0.1)  # a checkpoint is due

        return act

    stop = {14: lambda: signal.raise_signal(signal.SIGTERM)}
    assert failing.submit(acts={2: arm(0), 8: arm(1), **stop}).code == 143
    arm(2)()
    assert failing.submit(acts={2: arm(3), **slow(3, 13), **stop}).code == 143
    arm(4)()
    assert failing.submit().code == 0
    assert len(killed) == 5, killed
    failing.assert_exact()


def test_credentials_that_are_replaced_in_their_file_are_found(
    failing: Failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud.backends, "READ_AGAIN_SECONDS", 0.2)
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    def write(key: str) -> None:
        path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET_KEY}\n")

    def expired(request: Request) -> int:
        return 403 if ACCESS_KEY in request.headers.get("authorization", "") else NO_FAULT

    write(ACCESS_KEY)
    said = failing.submit(
        acts={
            3: lambda: failing.faults.begin("", "", expired),
            **slow(4, 5),  # a checkpoint is due after each
            6: lambda: time.sleep(1.0),  # and is refused meanwhile
            9: lambda: write(ROTATED_KEY),
        }
    )
    assert said.code == 0, said.err
    (warning,) = said.err.splitlines()
    assert "access denied" in warning and "training goes on" in warning
    failing.faults.end()
    failing.assert_exact()


def test_a_folder_that_goes_away_is_an_error_of_the_store(toy: Inside, tmp_path: Path) -> None:
    Acting.passes, Acting.acts = 0, {5: lambda: toy.run.rename(tmp_path / "away"), **slow(6, 9)}
    said = toy.submit("--max_unpublished_seconds", "0")
    assert said.code == 74, said.err
    (text,) = [line for line in said.err.splitlines() if "error" in line]
    assert f"{toy.run}: no such folder" in text and ", is saved in " in text
    assert not toy.run.exists(), "no half of it is made anew"


@pytest.mark.parametrize("when", ["before", "while it trains", "at the end"])
def test_data_that_goes_away_is_an_error_of_the_store_and_a_wrong_url_is_none(
    toy: Inside, tmp_path: Path, when: str
) -> None:
    Acting.passes, Acting.acts, away, num_epochs = 0, {}, tmp_path / "away", 100  # more than are made ahead
    toy.arguments = (*ARGUMENTS, "--epochs", num_epochs, "--memory_bytes", "0")  # each epoch reads the shards again
    assert "no such folder; create it or mend the path" in toy.refused(78, data=tmp_path / "wrong")
    if when == "before":
        toy.trained()
        toy.data.rename(away)
    else:
        Acting.acts = {4 if when == "while it trains" else num_epochs * 8: lambda: toy.data.rename(away)}
    said = toy.submit()
    assert said.code == 74, said.err
    assert f"{toy.data}: no such folder, though data was found before: bring it back" in said.error
    away.rename(toy.data)
    Acting.acts = {}
    assert toy.trained().outcome["outcome"] == ("done" if when == "while it trains" else "nothing_new")


@pytest.mark.parametrize("task", ["Acting", "Lazy"])
def test_a_shard_that_goes_away_while_it_trains_is_named_and_what_was_trained_is_saved(toy: Inside, task: str) -> None:
    more = ("--epochs", 100, "--memory_bytes", "0", "--save_every_seconds", "1000")
    toy.arguments = ("--task", f"tests.e2e.test_failing_stores:{task}", *ARGUMENTS[2:], *more)
    shards = {path: path.read_bytes() for path in toy.data.glob("*.jsonl")}
    Acting.passes, Acting.acts = 0, {4: (toy.data / "1.jsonl").unlink} if task == "Acting" else {}
    Lazy.num_left = 128 + 1000  # after the census
    said = toy.submit()
    (gone,) = [path for path in shards if not path.exists()]
    assert said.code == 65, said.err
    assert said.error.startswith(f"{gone.name} in ") and "gone; restore it" in said.error
    assert f"{gone.name}: gone, and round 1, which needs it, is unfinished" in toy.refused(65)
    gone.write_bytes(shards[gone])
    Acting.acts = {}
    assert toy.trained().outcome["outcome"] == "done"
    assert Acting.passes == 100 * 8, "no step was taken twice"


def test_a_shard_that_goes_away_before_its_census_is_none_the_next_time(toy: Inside) -> None:
    toy.arguments = ("--task", "tests.e2e.test_failing_stores:Vanishing", *ARGUMENTS[2:])
    said = toy.submit()
    assert said.code == 74, said.err
    assert "1.jsonl: gone since it was listed; submit again" in said.err
    assert toy.trained().outcome["outcome"] == "done", "without it"


def test_a_folder_that_becomes_read_only_or_empty_keeps_what_was_trained(toy: Inside) -> None:
    toy.run.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=10m", "tmpfs", toy.run):
        Acting.passes = 0
        Acting.acts = {5: lambda: run("mount", "-o", "remount,ro", toy.run), **slow(6, 9)}
        said = toy.submit("--max_unpublished_seconds", "0")
        assert said.code == 74 and "read-only file system" in said.err, said.err
        assert run("mount", "-o", "remount,rw", toy.run)
        Acting.passes, Acting.acts = 0, {3: lambda: run("umount", "-l", toy.run), **slow(4, 7)}  # it drops off
        gone = toy.submit("--max_unpublished_seconds", "0", "--claim_timeout_seconds", "1")
        assert ", is now ckpt_" in gone.out
        assert gone.code == 74 and "the claim of attempt 2 is gone from it" in gone.err, gone.err
        assert not names(open_store(str(toy.run)))


def test_a_stop_while_a_store_fails_saves_here_within_the_grace_period(failing: Failing) -> None:
    begin = {
        3: lambda: failing.faults.begin("P", "ckpt_", lambda request: 503),
        8: lambda: (time.sleep(2.5), signal.raise_signal(signal.SIGTERM)),
    }
    started = time.monotonic()
    said = failing.submit("--grace_seconds", "4", acts=begin)
    assert said.code == 74, said.err
    assert time.monotonic() - started < 2.5 + 4 + 6
    assert ", is saved in " in said.err.splitlines()[-1]
    failing.faults.end()
    assert ", is now ckpt_" in failing.submit().out
    failing.assert_exact()
