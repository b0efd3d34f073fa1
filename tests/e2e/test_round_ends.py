"""What the job tells of a round that is over, and whether its model replaces the exported one."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.noted import ARGUMENTS, FIRST, SECOND, THIRD, Bench, Noted, ids
from tests.e2e.submit import newest
from trainer.vocabulary import Vocabulary

EPOCHS = ("--epochs", "3", "--epoch_fraction", "0.6", "--learning_rate", "0.03")


def two_rounds(bench: Bench, *settings: str, runs: Sequence[Path] = ()) -> None:
    """Round 1 trained; the shards of round 2 are there, with a new label, and evaluation data of all labels."""
    bench.write("0.jsonl", FIRST)
    bench.write("eval/0.jsonl", ids("a", 90, 105) + ids("b", 90, 105))
    for run in runs or (bench.inside.run,):
        bench.submit(*EPOCHS, *settings, run=run)
    bench.write("1.jsonl", SECOND + ids("a", 20, 24))
    bench.write("eval/1.jsonl", ids("c", 90, 100))


def told(bench: Bench, attempt: int, url: object = None) -> dict[str, Any]:
    """The line of the round that the attempt ended."""
    (line,) = bench.metrics(attempt, url, kind="round")
    return line


def exported(bench: Bench) -> dict[str, Any]:
    """What the exported model says of itself."""
    return json.loads(bench.store().read("model/config.json"))


def test_a_round_is_compared_with_the_network_before_it_on_the_same_examples(bench):
    two_rounds(bench)
    first = bench.metrics(1)[-1]["metrics"]
    second = bench.submit(*EPOCHS, "--old_data", "none", "--learning_rate", "0.3", "--finetune_epochs", "6")
    line = told(bench, 2)
    metrics = line["metrics"]
    assert (line["round"], line["num_new"], line["num_old"], line["new_labels"]) == (2, 12, 0, ["c"])
    assert line["oov_rate"] == 8 / 12
    assert metrics["before"] == {"accuracy": first["accuracy"], "num_examples": 30}, "growing changed nothing yet"
    assert (metrics["old_labels"]["num_examples"], metrics["new_labels"]["num_examples"]) == (30, 10)
    assert metrics["accuracy"] * 40 == pytest.approx(
        metrics["old_labels"]["accuracy"] * 30 + metrics["new_labels"]["accuracy"] * 10
    )
    flips = metrics["flips"]
    assert flips["num_compared"] == 30
    lost = flips["negative_flip_rate"] - flips["positive_flip_rate"]
    assert lost != 0, "the bench would show nothing"
    assert metrics["forgetting"]["accuracy"] == pytest.approx(lost)
    assert metrics["forgetting"]["accuracy"] == pytest.approx(first["accuracy"] - metrics["old_labels"]["accuracy"])
    start = second.said.out.index("round       2: 12 new examples, new label 'c', 66.7 % of its words were new")
    table = second.said.out[start:].splitlines()[1:5]
    assert all(text.startswith(" " * 12) and len(text) <= 120 for text in table)
    assert f"{metrics['old_labels']['accuracy']:.4f}" in table[1]
    assert f"{-metrics['forgetting']['accuracy']:+.4f}" in table[1]
    assert table[3].strip().startswith(f"of 30 examples of old labels, {flips['negative_flips']} went from right to")


def test_stopped_anywhere_it_tells_the_same(bench, tmp_path):
    calm = tmp_path / "calm"
    two_rounds(bench, runs=(bench.inside.run, calm))
    bench.submit(*EPOCHS, run=calm)
    records = bench.inside.checkpoints()
    before = bench.submit(*EPOCHS, code=143, stop_evaluating_at=2).said
    assert before.out.splitlines()[-1].startswith("data "), "in the evaluation ahead of the round"
    assert bench.inside.checkpoints() == records
    assert bench.submit(*EPOCHS, code=143, stop_at=1).said.outcome["round"] == 2
    assert bench.submit(*EPOCHS, code=143, stop_evaluating_at=2).said.outcome["round"] == 2
    bench.submit(*EPOCHS)
    lines = [told(bench, 5), told(bench, 2, calm)]
    assert lines[0] | {"attempt": 2} == lines[1]
    progress = [newest(bench.store(url))["progress"] for url in (bench.inside.run, calm)]
    untimed = [{name: value for name, value in one.items() if name != "train_seconds"} for one in progress]
    assert untimed[0] == untimed[1]
    assert untimed[0]["before"]["num_examples"] == 30


def test_evaluation_data_that_changed_are_todays_for_both_networks(bench):
    two_rounds(bench)
    bench.write("eval/0.jsonl", ids("a", 200, 210))
    said = bench.submit(*EPOCHS, "--log_format", "json").said
    (event,) = [line for line in map(json.loads, said.out.splitlines()) if line["event"] == "round"]
    assert told(bench, 2).items() <= event.items(), "one object says it all"
    metrics = event["metrics"]
    assert metrics["before"]["num_examples"] == metrics["old_labels"]["num_examples"] == 10
    assert metrics["flips"]["num_compared"] == 10


class Unjudged(Noted):
    """Nobody says what is right."""

    def right(self, prediction: Any) -> None:
        return None


class Strict(Noted):
    """A label is a colour too, and an unknown colour is an error, in evaluation as well."""

    def grow(self, vocabulary: Vocabulary, labels: Iterable[str], examples: Iterable[Any]) -> Vocabulary:
        return vocabulary.add("label", labels).add("id", (example["id"][1] for example in examples))

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        assert [vocabulary.ids("id")[example["id"][1]] for example in examples]
        return super().collate(examples, vocabulary, seeds)


def test_a_task_that_cannot_show_todays_examples_to_the_old_network_trains_all_the_same(bench):
    bench.inside.arguments = ("--task", "tests.e2e.test_round_ends:Strict", *ARGUMENTS[2:])
    bench.write("0.jsonl", ids("a", 10, 20) + ids("b", 10, 20))
    bench.write("eval/0.jsonl", ids("a", 100, 105))
    bench.submit("--epochs", "1")
    bench.write("1.jsonl", ids("a", 20, 30))
    bench.write("eval/1.jsonl", ids("a", 200, 205))
    second = bench.submit("--epochs", "1").said
    warning = (
        "the network as it was cannot be judged on today's evaluation data: KeyError: '2'; forgetting and flips are"
    )
    assert second.err == f"perdure: warning: {warning} not told\n"
    assert "before" not in told(bench, 2)["metrics"]


def test_without_evaluation_data_or_flips_there_is_nothing_to_tell(bench):
    bench.inside.arguments = ("--task", "tests.e2e.test_round_ends:Unjudged", *ARGUMENTS[2:])
    bench.write("0.jsonl", FIRST)
    bench.submit("--epochs", "1")
    bench.write("1.jsonl", SECOND)
    quiet = bench.submit("--epochs", "1").said
    assert not [line for line in quiet.out.splitlines() if line.startswith("round ")]
    assert told(bench, 2)["metrics"] == {}
    bench.write("eval/0.jsonl", ids("a", 90, 96))
    bench.write("2.jsonl", THIRD)
    third = bench.submit("--epochs", "1").said
    assert told(bench, 3)["metrics"]["flips"] == {}
    assert "round       3: 12 new" in third.out
    assert "went from right to wrong" not in third.out


def test_a_model_that_is_not_good_enough_is_not_exported_now_or_later(bench):
    two_rounds(bench, "--promote_if", "accuracy >= 2")
    assert exported(bench)["scores"] == {"accuracy": bench.metrics(1)[-1]["metrics"]["accuracy"]}
    strict = ("--promote_if", "accuracy >= best + 0.5 and negative_flip_rate <= 1")
    refused = bench.submit(*EPOCHS, *strict).said
    best, line = bench.metrics(1)[-1]["metrics"]["accuracy"], told(bench, 2)
    reason = f"accuracy >= best + 0.5 does not hold: {line['metrics']['accuracy']:.4f} against {best + 0.5:.4f}"
    assert (line["promoted"], line["kept_because"], refused.outcome["promoted"]) == (False, reason, False)
    warning, = [text for text in refused.err.splitlines() if "model/" in text]  # fmt: skip
    assert warning.startswith(f"perdure: warning: model/ is left as it was: {reason}; train from scratch in another ")
    assert "(3 epochs of 44 examples, about " in warning
    assert "and add an epoch (--finetune_epochs 3)" in warning
    for settings in (strict, (), ("--promote_if", "accuracy >= 0")):
        again = bench.submit(*EPOCHS, *settings).said
        assert (again.outcome["outcome"], exported(bench)["epoch"]) == ("nothing_new", 3)
        assert "nothing new since epoch 5, whose model was not promoted." in again.out
    more = bench.submit(*EPOCHS, "--promote_if", "accuracy >= 0", "--finetune_epochs", "3").said
    assert (more.outcome["promoted"], exported(bench)["epoch"]) == (True, 6)
    assert exported(bench)["scores"]["new_labels.accuracy"] == told(bench, 6)["metrics"]["new_labels"]["accuracy"]


def test_best_is_that_of_the_models_that_were_promoted(bench):
    two_rounds(bench)
    bench.submit(*EPOCHS, "--promote_if", "accuracy > 2", code=0)
    lost = newest(bench.store())["progress"]
    first = bench.metrics(1)[-1]["metrics"]["accuracy"]
    assert lost["promoted_scores"]["accuracy"] == [first, first]
    bench.write("2.jsonl", THIRD)
    bench.write("eval/2.jsonl", ids("d", 90, 100))
    bench.submit(*EPOCHS, "--promote_if", "accuracy >= best - 0.9", code=143, stop_at=1)
    bench.submit(*EPOCHS, "--promote_if", "accuracy >= best - 0.9")
    third = told(bench, 4)
    now = third["metrics"]["accuracy"]
    assert third["promoted"]
    ranges = newest(bench.store())["progress"]["promoted_scores"]
    assert ranges["accuracy"] == sorted([first, now])
    assert ranges["negative_flip_rate"] == [third["metrics"]["flips"]["negative_flip_rate"]] * 2


def test_a_model_that_was_promoted_is_exported_whatever_comes_after_it(bench):
    """Two rounds in one submission, of which the second is not promoted; and a machine that went away in between."""
    bench.write("eval/0.jsonl", ids("a", 90, 105) + ids("b", 90, 105))
    bench.write("0.jsonl", FIRST)
    bench.submit(*EPOCHS, code=143, stop_at=2)
    bench.write("1.jsonl", SECOND)
    both = bench.submit(*EPOCHS, "--promote_if", "accuracy > 2").said
    assert (both.outcome["round"], both.outcome["promoted"], exported(bench)["epoch"]) == (2, False, 3)
    bench.write("2.jsonl", THIRD)
    bench.submit(*EPOCHS)
    assert exported(bench)["epoch"] == 7
    for path in (bench.inside.run / "model").iterdir():
        path.unlink()  # as if the attempt had been killed before it exported anything
    bench.write("3.jsonl", ids("e", 0, 8))
    bench.submit(*EPOCHS, "--promote_if", "accuracy > 2")
    assert exported(bench)["epoch"] == 7


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("accuracy => 0.5", "--promote_if 'accuracy => 0.5': 'accuracy => 0.5' is no condition; write a score, one of"),
        ("acuracy >= best", "--promote_if: no score is called acuracy; there are: accuracy, negative_flips, "),
    ],
)
def test_wrong_conditions_are_refused_before_anything_is_trained(bench, text, error):
    two_rounds(bench)
    records = bench.inside.checkpoints()
    refused = bench.submit(*EPOCHS, "--promote_if", text, code=78)
    assert refused.said.error.startswith(error)
    assert refused.trained == {}
    assert bench.inside.checkpoints() == records


def test_conditions_need_evaluation_data(bench):
    bench.write("0.jsonl", FIRST)
    refused = bench.submit(*EPOCHS, "--promote_if", "accuracy >= best", code=78).said
    assert "there is no evaluation data to judge by; put shards into eval/ of --data_url" in refused.error
    assert bench.submit(*EPOCHS, "--promote_if", "accuracy >= best", "--eval_fraction", "0.3").said.code == 0


def test_a_shard_that_is_gone_is_named_once(bench):
    bench.write("0.jsonl", FIRST)
    bench.write("1.jsonl", SECOND)
    bench.submit("--epochs", "1")
    (bench.inside.data / "1.jsonl").unlink()
    gone = "data        1 shard gone since trained: 1.jsonl\n"
    outs = [bench.submit("--epochs", "1").said.out for _ in range(3)]
    assert [gone in out for out in outs] == [True, False, False]
    bench.write("2.jsonl", THIRD)
    assert "gone since" not in bench.submit("--epochs", "1").said.out
    (bench.inside.data / "2.jsonl").unlink()
    assert "data        1 shard gone since trained: 2.jsonl\n" in bench.submit("--epochs", "1").said.out


def test_new_evaluation_shards_are_counted(bench):
    two_rounds(bench)
    second = bench.submit(*EPOCHS).said
    assert (
        "data        2 shards as before, 1 new shard and 1 for evaluation: 12 examples, new label 'c'\n" in second.out
    )
