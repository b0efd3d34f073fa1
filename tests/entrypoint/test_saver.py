"""Publishing in the background: what fails can be tried again, and no state is published twice."""

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from cloud.claim import Claim, claim
from cloud.folder import OutputFolder
from cloud.held import HeldFolder
from cloud.open import open_store
from cloud.store import Store, Writer
from cloud.wrapped import Wrapped
from entrypoint.console import Console
from entrypoint.errors import Stopped, Unpublished
from entrypoint.report import Report
from entrypoint.saver import Saver
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from tests.cloud.wrappers import Failing
from trainer.frozen import Frozen
from trainer.plan import Progress
from trainer.snapshot import HostCopy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"), writable=True)


@pytest.fixture
def held(store: Store) -> Iterator[Claim]:
    held = claim(store)
    yield held
    held.stop_beating()


def content(step: int, weight: float | None = None, optimizer: dict[str, Any] | None = None) -> dict[str, Any]:
    progress = Progress(round=1, epoch=0, global_step=step)
    net = {"weight": torch.full((3,), float(step) if weight is None else weight), "count": torch.tensor(step)}
    plain = {"net": net, "epoch": 0, "global_step": step, "progress": asdict(progress), "settings": {}}
    return plain if optimizer is None else {**plain, "optimizer": optimizer}


def sgd(learning_rate: float, *names: str) -> dict[str, Any]:
    """An optimizer's state_dict; with the names of what it trains, as the job's own has them."""
    group: dict[str, Any] = {"params": [0], "lr": learning_rate, **({"param_names": list(names)} if names else {})}
    return {"state": {}, "param_groups": [group]}


def saver_on(store: Store, held: Claim, **settings: Any) -> Saver:
    config = JobConfig(train_url=store.url, cache_dir=Path(store.url).parent / "cache", **settings)
    return Saver(config, HeldFolder(store, held), Report(Console(), time.monotonic()), "", Stop())


def names(store: Store) -> list[str]:
    return [record.name for record in OutputFolder(store).records()]


def test_what_could_not_be_published_is_published_as_soon_as_the_store_works_again(
    store: Store, held: Claim, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = saver_on(Failing(store, "create", lambda key: key.startswith("ckpt_"), after=False, times=2), held)
    saver.save(content(5), (), None)
    saver.wait()
    assert names(store) == ["ckpt_0_5-a1"]
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("perdure: warning: publishing fails: ckpt_0_5-a1.json: no answer")
    assert warning.endswith("for up to --max_unpublished_seconds 1800")


def test_what_no_store_takes_is_saved_on_this_machine(store: Store, held: Claim, tmp_path: Path) -> None:
    failing = Failing(store, "create", lambda key: key.startswith("ckpt_"), after=False, times=99)
    saver = saver_on(failing, held, max_unpublished_seconds=0)
    saver.save(content(5), (), None)
    with pytest.raises(
        Unpublished, match=r"no answer.*; the newest state, ckpt_0_5-a1, is saved in .*unpublished/run-"
    ):
        saver.wait()
    saver.rescue()  # what came later is tried once, and replaces it
    saver.save(content(7), (), None)
    with pytest.raises(Unpublished, match="ckpt_0_7-a1"):
        saver.wait()
    assert names(store) == []
    (aside,) = (tmp_path / "cache" / "unpublished").iterdir()
    chosen = OutputFolder(open_store(str(aside))).choose(lambda: None)
    assert chosen is not None and chosen.record.name == "ckpt_0_7-a1"
    assert torch.equal(torch.load(chosen.file, weights_only=True)["net"]["weight"], torch.full((3,), 7.0))
    assert sorted(path.name for path in aside.glob("ckpt_*")) == ["ckpt_0_7-a1.json", "ckpt_0_7-a1.pth"]


def test_what_is_frozen_is_saved_on_this_machine_too_when_the_store_is_gone(
    store: Store, held: Claim, tmp_path: Path
) -> None:
    frozen = Frozen({"encoder": torch.arange(4.0)})
    saver = saver_on(store, held, max_unpublished_seconds=0)
    shutil.rmtree(store.url)
    saver.save(content(5), (), None, frozen)
    with pytest.raises(Unpublished, match=r"copy ckpt_0_5-a1.pth, frozen/\w+-a1.pth and ledger/ from there") as raised:
        saver.wait()
    assert f"{store.url}: no such folder; create it or mend the path; the newest state" in str(raised.value)
    (aside,) = (tmp_path / "cache" / "unpublished").iterdir()
    chosen = OutputFolder(open_store(str(aside))).choose(lambda: None)
    assert chosen is not None and chosen.frozen is not None
    assert torch.equal(torch.load(chosen.frozen, weights_only=True)["encoder"], torch.arange(4.0))


def test_a_stop_does_not_wait_for_the_snapshot_behind_the_one_in_flight_when_that_is_too_late(
    store: Store, held: Claim
) -> None:
    class Slow(Wrapped):
        @contextmanager
        def writer(self, key: str) -> Iterator[Writer]:
            time.sleep(0.5)
            with self.inner.writer(key) as writer:
                yield writer

    class Soon(Stop):
        @property
        def seconds_left(self) -> float:
            return math.inf if self.requested is None else 0.8

    stop = Soon()
    config, folder = JobConfig(train_url=store.url), HeldFolder(Slow(store), held)
    saver = Saver(config, folder, Report(Console(), time.monotonic()), "", stop)
    saver.save(content(5), (), None)
    saver.wait()
    for step in (6, 7):
        saver.save(content(step), (), None)
    stop.request("SIGTERM")
    for _ in range(2):  # as the loop and the end of a round do
        saver.save(content(7), (), None)
    with pytest.raises(Stopped):
        saver.wait()
    assert names(store) == ["ckpt_0_6-a1", "ckpt_0_5-a1"]


def test_the_same_state_is_published_once(store: Store, held: Claim) -> None:
    saver = saver_on(store, held)
    for _ in range(3):
        saver.save(content(5), (), None)
    saver.wait()
    assert names(store) == ["ckpt_0_5-a1"]
    assert saver.last == "ckpt_0_5-a1"


def test_a_save_is_due_by_the_clock_and_a_failure_comes_out(store: Store, held: Claim) -> None:
    saver = saver_on(store, held, save_every_seconds=0.05)
    assert not saver.due()
    time.sleep(0.06)
    assert saver.due()
    failing = Failing(store, "create", lambda key: key.startswith("ckpt_"), after=False, times=9)
    saver_failing = saver_on(failing, held, max_unpublished_seconds=0)
    saver_failing.save(content(7), (), None)
    with pytest.raises(Unpublished):
        while True:
            saver_failing.due()
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("learning_rate", "names", "weight", "is_stale"),
    [
        (0.1, ["weight"], 1.0, True),
        (0.1, ["weight"], 1.0000001, False),
        (0.0, ["weight"], 1.0, False),  # nothing is to change at a learning rate of 0
        (0.1, [], 1.0, False),  # which of the tensors are trained is not told, and one of them changed
        (float("nan"), ["weight"], 1.0, False),
    ],
)
def test_a_network_that_steps_did_not_change_raises_an_alarm(
    store: Store,
    held: Claim,
    capsys: pytest.CaptureFixture[str],
    learning_rate: float,
    names: list[str],
    weight: float,
    is_stale: bool,
) -> None:
    saver = saver_on(store, held)
    saver.save(content(5, 1.0, sgd(learning_rate, *names)), (), None)
    saver.save(content(7, weight, sgd(learning_rate, *names)), (), None)
    saver.wait()
    alarm = (
        "perdure: warning: ckpt_0_7-a1: the network is that of ckpt_0_5-a1, to the bit, although 2 steps were taken at "
        "learning rate 0.1: a stale copy was saved, or nothing is trained\n"
    )
    assert capsys.readouterr().err == (alarm if is_stale else "")
    later, earlier = OutputFolder(store).records()
    assert bool(later.unchanged_since(earlier)) is is_stale
    assert not earlier.unchanged_since(later)


def test_the_first_save_of_an_attempt_is_compared_with_what_was_restored(
    store: Store, held: Claim, capsys: pytest.CaptureFixture[str]
) -> None:
    saver_on(store, held).save(content(5, 1.0, sgd(0.1, "weight")), (), None)
    while not names(store):
        time.sleep(0.01)
    folder = HeldFolder(store, held, OutputFolder(store).records()[0])
    saver = Saver(JobConfig(), folder, Report(Console(), time.monotonic()), "", Stop())
    saver.save(content(9, 1.0, sgd(0.1, "weight")), (), None)
    saver.wait()
    assert "ckpt_0_9-a1: the network is that of ckpt_0_5-a1" in capsys.readouterr().err


def test_a_step_that_the_scaler_left_out_changes_nothing(
    store: Store, held: Claim, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = saver_on(store, held)
    for step in (5, 6):
        scaler = {"scale": 65536.0, "_growth_tracker": 0}
        saver.save({**content(step, 1.0, sgd(0.1, "weight")), "scaler": scaler}, (), None)
    saver.wait()
    assert capsys.readouterr().err == ""


class Slow(Wrapped):
    """Takes a while for each object, as a network does for a large one."""

    def writer(self, key: str) -> AbstractContextManager[Writer]:
        time.sleep(0.3)
        return super().writer(key)


@pytest.mark.parametrize(
    ("overlap", "is_due", "num_copies", "blocked"), [("skip", False, 2, (0.0, 0.2)), ("wait", True, 1, (0.25, 2.0))]
)
def test_a_store_that_is_slower_than_training_costs_checkpoints_or_time_but_no_more_memory(
    store: Store,
    held: Claim,
    monkeypatch: pytest.MonkeyPatch,
    overlap: str,
    is_due: bool,
    num_copies: int,
    blocked: tuple[float, float],
) -> None:
    made = []
    monkeypatch.setattr(HostCopy, "__init__", lambda self: made.append(self) or NEW(self))
    saver = saver_on(Slow(store), held, save_every_seconds=0.01, overlap=overlap)
    saver.save(content(1), (), None)
    time.sleep(0.05)
    assert saver.due() is is_due
    started = time.monotonic()
    saver.save(content(2), (), {"accuracy": 1.0})  # the end of an epoch is saved in any case
    assert blocked[0] <= time.monotonic() - started <= blocked[1]
    for step in range(3, 5):
        saver.save(content(step), (), None)
    saver.wait()
    assert len(names(store)) >= 2 and saver.last == "ckpt_0_4-a1"
    assert len(made) == num_copies


NEW = HostCopy.__init__
