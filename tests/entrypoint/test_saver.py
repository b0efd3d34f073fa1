"""Publishing in the background: what fails can be tried again, and no state is published twice."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from cloud.claim import Claim, claim
from cloud.errors import Unreachable
from cloud.folder import OutputFolder
from cloud.held import HeldFolder
from cloud.open import open_store
from cloud.store import Store
from entrypoint.console import Console
from entrypoint.report import Report
from entrypoint.saver import Saver
from entrypoint.settings import JobConfig
from tests.cloud.wrappers import Failing
from trainer.plan import Progress


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"), writable=True)


@pytest.fixture
def held(store: Store) -> Iterator[Claim]:
    held = claim(store)
    yield held
    held.stop_beating()


def content(step: int) -> dict[str, Any]:
    progress = Progress(round=1, epoch=0, global_step=step)
    net = {"weight": torch.full((3,), float(step))}
    return {"net": net, "epoch": 0, "global_step": step, "progress": asdict(progress), "settings": {}}


def saver_on(store: Store, held: Claim, **settings: Any) -> Saver:
    config = JobConfig(**settings)
    return Saver(config, HeldFolder(store, held), Report(Console(), time.monotonic()), "")


def names(store: Store) -> list[str]:
    return [record.name for record in OutputFolder(store).records()]


def test_what_could_not_be_published_is_published_when_it_is_asked_for_again(store: Store, held: Claim) -> None:
    failing = Failing(store, "create", lambda key: key.startswith("ckpt_"), after=False)
    saver = saver_on(failing, held)
    saver.save(content(5), (), None)
    with pytest.raises(Unreachable):
        saver.wait()
    assert names(store) == []
    saver.save(content(5), (), None)
    saver.wait()
    assert names(store) == ["ckpt_0_5-a1"]


def test_the_same_state_is_published_once(store: Store, held: Claim) -> None:
    saver = saver_on(store, held)
    for _ in range(3):
        saver.save(content(5), (), None)
    saver.wait()
    assert names(store) == ["ckpt_0_5-a1"]
    assert saver.last == "ckpt_0_5-a1"


def test_a_save_is_due_by_the_clock_and_a_failure_comes_out(store: Store, held: Claim) -> None:
    saver = saver_on(Failing(store, "create", lambda key: key.startswith("ckpt_")), held, save_every_seconds=0.05)
    assert not saver.due()
    time.sleep(0.06)
    assert saver.due()
    saver_failing = saver_on(Failing(store, "create", lambda key: key.startswith("ckpt_"), after=False, times=9), held)
    saver_failing.save(content(7), (), None)
    with pytest.raises(Unreachable):
        while True:
            saver_failing.due()
            time.sleep(0.01)
