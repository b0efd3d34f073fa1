"""A loop of one's own: what a break, a stop and another seed leave for the next run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import perdure
from entrypoint.stop import Stop

BATCHES = torch.arange(6.0).split(2)


@pytest.fixture(autouse=True)
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process belongs to pytest."""
    monkeypatch.setattr(Stop, "install", lambda self: None)


def train(folder: Path, num_epochs: int, **settings: Any) -> Iterator[tuple[int, int, perdure.Run]]:
    """(epoch, number of the batch, run) at every batch of a real loop."""
    torch.manual_seed(0)
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with perdure.Run(str(folder), net=net, optimizer=optimizer, **settings) as run:
        for epoch in run.epochs(num_epochs):
            for batch in run.batches(BATCHES):
                loss = net(batch[:, None]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                yield epoch, int(batch[0]) // 2, run
            run.note(loss=loss.item())


def test_what_is_left_is_trained_and_nothing_else(tmp_path: Path) -> None:
    assert [(epoch, batch) for epoch, batch, _ in train(tmp_path, 2)] == [(e, b) for e in range(2) for b in range(3)]
    assert [epoch for epoch, _, _ in train(tmp_path, 3)] == [2, 2, 2]


@pytest.mark.parametrize(("last", "left"), [(1, [(1, 2)]), (2, [])])
def test_a_stop_at_any_batch_leaves_the_rest_and_never_an_empty_epoch(
    tmp_path: Path, last: int, left: list[tuple[int, int]]
) -> None:
    with pytest.raises(SystemExit) as ended:
        for epoch, batch, run in train(tmp_path, 3):
            if (epoch, batch) == (1, last):
                run._stop.request("SIGTERM")
    assert ended.value.code == 143
    rest = [(epoch, batch) for epoch, batch, _ in train(tmp_path, 3)]
    assert rest == [*left, (2, 0), (2, 1), (2, 2)]


def test_a_break_after_the_last_batch_ends_the_epoch(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with perdure.Run(str(tmp_path), net=net, optimizer=optimizer) as run:
        for epoch in run.epochs(4):
            list(run.batches(BATCHES))
            if epoch == 1:
                break
    assert [epoch for epoch, _, _ in train(tmp_path, 3)] == [2, 2, 2]


def test_a_break_in_the_middle_leaves_the_rest_of_the_epoch(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with perdure.Run(str(tmp_path), net=net, optimizer=optimizer) as run:
        for _ in run.epochs(4):
            batches = run.batches(BATCHES)
            next(batches), next(batches)
            break
    assert [(epoch, batch) for epoch, batch, _ in train(tmp_path, 1)] == [(0, 1), (0, 2)]


def test_another_seed_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    list(train(tmp_path, 1, seed=1))
    with pytest.raises(SystemExit) as ended:
        list(train(tmp_path, 1, seed=2))
    assert ended.value.code == 78
    assert "seed: found 1" in capfd.readouterr().err
