"""The README's own task is a task: found by its path, it learns real flowers, and later a species more."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

from trainer.task import Task, make_task
from trainer.vocabulary import Vocabulary

FILE = Path(__file__).with_name("iris_task.py")


def write_shard(path: Path, species: list[int]) -> Path:
    """The flowers of these species, as the task reads them."""
    data = load_iris()
    rows = [(*map(str, values), data.target_names[kind]) for values, kind in zip(data.data, data.target, strict=True)]
    chosen = [",".join(row) for row, kind in zip(rows, data.target, strict=True) if kind in species]
    path.write_text("\n".join(chosen) + "\n")
    return path


def learn(task: Task, net: nn.Module, examples: list[Any], vocabulary: Vocabulary) -> float:
    """Train a little; the accuracy afterwards."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-2)
    batch = task.collate(examples, vocabulary, None)
    for _ in range(150):
        optimizer.zero_grad()
        (task.loss(net, batch) / len(examples)).backward()
        optimizer.step()
    accuracy: float = task.scores(task.predict(net, batch), vocabulary)["accuracy"]
    return accuracy


@pytest.fixture
def task() -> Task:
    torch.manual_seed(0)
    return make_task(f"{FILE}:Iris", {})


def test_it_learns_two_species_and_later_a_third(task: Task, tmp_path: Path) -> None:
    first = list(task.read(write_shard(tmp_path / "1.csv", [1, 2])))
    second = list(task.read(write_shard(tmp_path / "2.csv", [0])))
    vocabulary = task.grow(Vocabulary(), map(task.label, first), first)
    net = task.build(vocabulary)
    assert learn(task, net, first, vocabulary) > 0.95

    larger = task.grow(vocabulary, map(task.label, second), second)
    assert larger.names("label") == ("versicolor", "virginica", "setosa")
    grown = task.build(larger)
    missing = grown.load_state_dict(net.state_dict(), strict=False).missing_keys
    assert missing == ["2.blocks.1.weight", "2.blocks.1.bias"]
    inputs = task.collate(first, vocabulary, None)[0]
    assert torch.allclose(grown(inputs)[:, :2], net(inputs), atol=1e-5)
    assert learn(task, grown, first + second, larger) > 0.95


def test_a_file_of_something_else_is_a_value_error(task: Task, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("sepal length,sepal width,species\n")
    with pytest.raises(ValueError, match="could not convert"):
        task.read(tmp_path / "x.csv")


def test_it_is_as_short_as_the_readme_says() -> None:
    lines = [line for line in FILE.read_text().splitlines() if line.strip()]
    assert len(lines) <= 32
