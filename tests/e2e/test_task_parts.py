"""What a task may have beside the methods it must have: defaults, resources, files that are none of its shards."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from tests.e2e.noted import FIRST, SECOND, THIRD, Noted
from tests.e2e.submit import newest
from trainer.errors import NotAShard
from trainer.settings import setting
from trainer.task import TaskSettings
from trainer.vocabulary import Vocabulary

WORDED = ("--task", "tests.e2e.test_task_parts:Worded", "--batch_size", "8", "--threads", "1")


class Lines(list[Any]):
    """Examples, and what their file says beside them."""

    resources: Sequence[str] = ()


class WordedSettings(TaskSettings):
    """One setting of each class."""

    fixed: int = 1
    per_round: int = setting(1, "a number", when="round", group="task", ge=1)
    now: int = setting(1, "a number", when="now", group="task")


class Worded(Noted):
    """Lines that are plain strings are resources; a file that begins with # is no shard."""

    Settings = WordedSettings
    settings: WordedSettings
    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 3, "learning_rate": 0.02}
    seen: ClassVar[list[int]] = []

    def read(self, path: Path) -> Sequence[Any]:
        text = path.read_text()
        if text.startswith("#"):
            raise NotAShard("begins with #")
        values = [json.loads(line) for line in text.splitlines()]
        lines = Lines(value for value in values if not isinstance(value, str))
        lines.resources = tuple(value for value in values if isinstance(value, str))
        return lines

    def grow(self, vocabulary: Vocabulary, labels: Iterable[str], examples: Iterable[Any]) -> Vocabulary:
        words = [example for example in examples if isinstance(example, str)]
        return vocabulary.add("label", labels).add("word", words)

    def loss(self, net: Any, batch: Any) -> Any:
        self.seen.append(self.settings.per_round)
        return super().loss(net, batch)


def model(bench: Any) -> Any:
    """What model/config.json says."""
    return json.loads((bench.inside.run / "model" / "config.json").read_text())


def test_a_tasks_defaults_hold_where_nothing_was_given(bench):
    bench.inside.arguments = WORDED
    bench.write("0.jsonl", FIRST)
    first = bench.submit()
    assert first.trained == dict.fromkeys(FIRST, 3)
    header = bench.ledger(1)[0]["settings"]
    assert (header["epochs"], header["learning_rate"], header["batch_size"]) == (3, 0.02, 8)
    bench.write("1.jsonl", SECOND)
    assert bench.submit("--epochs", "3", "--old_data", "none").trained == dict.fromkeys(SECOND, 1)


def test_show_settings_tells_the_tasks_defaults(bench):
    bench.inside.arguments = (*WORDED, "--learning_rate", "0.5", "--show_settings")
    rows = {line.split()[0]: line.split() for line in bench.inside.submit().out.splitlines()}
    assert rows["epochs"] == ["epochs", "3", "round", "default", "of", "task", WORDED[1]]
    assert rows["learning_rate"] == ["learning_rate", "0.5", "round", "the", "command", "line"]


def test_a_file_of_another_kind_is_named_once_and_passed_over(bench):
    bench.inside.arguments = WORDED
    bench.write("0.jsonl", FIRST)
    other = bench.inside.data / "domain.jsonl"
    other.write_text("# no examples\n")
    named = "no shards of task tests.e2e.test_task_parts:Worded, passed over: domain.jsonl"
    assert named in bench.submit().said.out
    again = bench.submit().said
    assert "passed over" not in again.out and "2 shards as before, none new" in again.out
    other.write_text("# edited, and still none\n")
    bench.write("1.jsonl", SECOND)
    assert named in bench.submit().said.out
    other.unlink()
    bench.write("domain.jsonl", THIRD)  # now it is a shard
    said = bench.submit().said
    assert "12 new examples" in said.out and "passed over" not in said.out


def test_threads_are_those_given_else_those_of_the_task_for_the_network_it_has(bench, monkeypatch):
    bench.inside.arguments = WORDED[:-2]  # without --threads
    bench.write("0.jsonl", FIRST)
    sizes: list[int] = []

    def of_small(task: Any, net: Any) -> int:
        sizes.append(sum(parameter.numel() for parameter in net.parameters()))
        return 3 if sizes[-1] == sizes[0] else 0

    monkeypatch.setattr(Worded, "num_threads", of_small)
    torch_decides = torch.get_num_threads()
    bench.submit(code=143, stop_at=2)
    assert newest(bench.store())["settings"]["now"]["threads"] == 3
    torch.set_num_threads(torch_decides)  # as in a process of its own
    bench.submit("--threads", "2")
    assert newest(bench.store())["settings"]["now"]["threads"] == 2
    torch.set_num_threads(torch_decides)
    bench.write("1.jsonl", SECOND)  # new labels: parameters of their own
    bench.submit()
    assert newest(bench.store())["settings"]["now"]["threads"] == torch_decides


def test_only_files_of_another_kind_are_no_data(bench):
    bench.inside.arguments = WORDED
    bench.inside.data.joinpath("domain.jsonl").write_text("# no examples\n")
    expected = "no data of task tests.e2e.test_task_parts:Worded in domain.jsonl; mend --data_url"
    assert expected in bench.submit(code=65).said.error


def test_resources_reach_the_vocabulary_also_of_a_file_without_examples(bench):
    bench.inside.arguments = WORDED
    bench.write("1.jsonl", FIRST)
    bench.inside.data.joinpath("0.jsonl").write_text('"red"\n"blue"\n')
    bench.submit()
    assert model(bench)["vocabulary"]["word"] == [["blue", "red"]]
    bench.inside.data.joinpath("0.jsonl").write_text('"red"\n"green"\n')
    bench.write("2.jsonl", SECOND)
    bench.submit()
    assert model(bench)["vocabulary"]["word"] == [["blue", "red"], ["green"]]


def test_a_tasks_settings_are_read_when_their_class_says(bench):
    bench.inside.arguments = WORDED
    bench.write("0.jsonl", FIRST)
    Worded.seen.clear()
    bench.submit("--set", "per_round=2", code=143, stop_at=2)
    bench.submit("--set", "per_round=3", "--set", "now=5")
    assert set(Worded.seen) == {2}, "the round began with it"
    assert (model(bench)["set"]["per_round"], model(bench)["set"]["now"]) == (2, 5)
    bench.write("1.jsonl", SECOND)
    Worded.seen.clear()
    bench.submit("--set", "per_round=3")
    assert set(Worded.seen) == {3}
    assert "--set fixed: found 1 in" in bench.submit("--set", "fixed=2", code=78).said.error


def test_defaults_that_cannot_be_used_are_the_tasks_fault(bench, monkeypatch):
    bench.inside.arguments = WORDED
    bench.write("0.jsonl", FIRST)
    monkeypatch.setattr(Worded, "defaults", {"epochs": 0})
    assert "task Worded: defaults: epochs: Input should be greater" in bench.submit(code=78).said.error
