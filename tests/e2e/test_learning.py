"""Settings that change between submissions, learning rates, precisions, early ends: each exact after a stop."""

import json
import os

import pytest

from entrypoint.saver import Saver
from tests.e2e.noted import FIRST, SECOND, THIRD, Bench, ids
from tests.e2e.submit import assert_same_training, newest


def learning_rates(bench: Bench, *attempts: int) -> list[float]:
    """Those of the last step of each epoch."""
    return [line["learning_rate"] for attempt in attempts for line in bench.metrics(attempt)]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_learning_rate_falls_over_a_round_and_is_warmed_up_again_in_the_next(bench, schedule):
    settings = ("--schedule", schedule, "--epochs", "8", "--epoch_fraction", "1", "--warmup_fraction", "0.2")
    bench.write("0.jsonl", FIRST)
    bench.submit(*settings)
    bench.write("1.jsonl", SECOND)
    bench.submit(*settings, "--old_data", "all")
    first, second = learning_rates(bench, 1), learning_rates(bench, 2)
    for rates in (first, second):
        assert rates[0] < rates[1], "warm-up"
        assert rates[1:] == sorted(rates[1:], reverse=True)
        assert max(rates) <= 0.01
    assert second[0] != second[1] > 0.6 * 0.01
    assert (first[-1] == 0.01) == (schedule == "constant")
    assert schedule == "constant" or first[-1] < 0.1 * 0.01


def test_settings_of_a_round_hold_until_it_ends_and_those_of_now_hold_now(bench):
    settings = ("--epochs", "4", "--warmup_fraction", "0", "--schedule", "constant", "--epoch_fraction", "0.5")
    bench.write("0.jsonl", FIRST)
    bench.submit(*settings, code=143, stop_at=5)
    changed = ("--batch_size", "16", "--learning_rate", "0.5", "--learning_rate_factor", "0.1", "--weight_decay", "0.3")
    rest = bench.submit(*settings, *changed)
    assert rest.said.outcome["last_global_step"] == 4 * 4  # of 8 examples each
    assert set(learning_rates(bench, 2)) == {0.1 * 0.01}
    groups = newest(bench.store())["optimizer"]["param_groups"]
    assert sorted(group["weight_decay"] for group in groups) == [0.0, 0.3]
    bench.write("1.jsonl", SECOND)
    second = bench.submit(*settings, *changed, "--old_data", "all")
    assert second.said.outcome["last_global_step"] == 4 * 4 + 2 * 3  # 40 examples: 16, 16, 8
    assert set(learning_rates(bench, 3)) == {0.1 * 0.5}


def test_settings_of_the_run_are_fixed_for_the_folder(bench):
    bench.write("0.jsonl", FIRST)
    bench.submit("--epochs", "1")
    for name, value in (("seed", 3), ("eval_fraction", 0.2)):
        refused = bench.submit("--epochs", "2", f"--{name}", value, code=78).said
        assert refused.error.startswith(f"--{name}: found 0")
        assert f"expected {value}; it is fixed for a folder" in refused.error
    assert bench.submit("--epochs", "2").said.outcome["epoch"] == 2


@pytest.mark.parametrize(
    "settings",
    [
        ("--precision", "bf16"),
        ("--precision", "fp16"),
        ("--optimizer", "sgd"),
        ("--optimizer", "sgd", "--momentum", "0", "--max_grad_norm", "0"),
        ("--micro_batch_size", "3"),
        ("--examples_per_epoch", "20"),
        ("--early_stopping_epochs", "2", "--best_metric", "accuracy", "--eval_fraction", "0.2"),
    ],
    ids=lambda settings: "-".join(settings).replace("--", ""),
)
def test_stopped_in_both_rounds_it_ends_as_if_it_never_was(bench, tmp_path, settings):
    settings = ("--epochs", "4", "--epoch_fraction", "0.5", "--replay", "1", *settings)
    for run, stops in ((bench.inside.run, True), (tmp_path / "calm", False)):
        bench.inside.data = tmp_path / f"data-{stops}"
        bench.write("0.jsonl", FIRST)
        _ = stops and bench.submit(*settings, code=143, stop_at=6, run=run)
        bench.submit(*settings, run=run)
        bench.write("1.jsonl", THIRD)
        _ = stops and bench.submit(*settings, code=143, stop_at=2, run=run)
        bench.submit(*settings, run=run)
    assert_same_training(bench.store(), bench.store(tmp_path / "calm"))


@pytest.mark.skipif(not os.environ.get("TESTS_COMPILE"), reason="the C++ compiler takes 20 s: TESTS_COMPILE=1 runs it")
def test_a_compiled_network_ends_bit_for_bit_as_if_it_was_never_stopped(bench, tmp_path):
    settings = ("--compile", "--epochs", "2", "--batch_size", "16")  # 36 examples: batches of 16 and of 4
    bench.write("0.jsonl", FIRST + THIRD[:4])
    bench.submit(*settings, code=143, stop_at=3)
    for run in (bench.inside.run, tmp_path / "calm"):
        assert bench.submit(*settings, run=run).said.err == ""
    assert_same_training(bench.store(), bench.store(tmp_path / "calm"))


def test_training_does_not_depend_on_when_it_is_saved(bench, tmp_path, monkeypatch):
    saves, save = [], Saver.save
    monkeypatch.setattr(Saver, "save", lambda self, *args: (saves.append(args[2] is None), save(self, *args)))
    bench.write("0.jsonl", FIRST)
    ways = (("--save_every", "epoch"), ("--max_lost_seconds", "0.001"), ("--save_every_seconds", "0.001"))
    num_within_epochs = []
    for number, way in enumerate(ways):
        saves.clear()
        bench.submit("--epochs", "4", *way, run=tmp_path / f"run-{number}")
        num_within_epochs.append(sum(saves))
        assert_same_training(bench.store(tmp_path / "run-0"), bench.store(tmp_path / f"run-{number}"))
    assert num_within_epochs[0] == 1  # at the end of a round, where there is nothing to save any more
    assert min(num_within_epochs[1:]) > 1


def test_a_virtual_epoch_counts_examples_and_goes_on_where_it_was_stopped(bench):
    settings = ("--epochs", "5", "--examples_per_epoch", "20")  # of 32, in steps of 8, 8 and 4
    bench.write("0.jsonl", FIRST)
    bench.submit(*settings, code=143, stop_at=5)
    bench.submit(*settings)
    told = bench.metrics(1) + bench.metrics(2)
    assert [(line["epoch"], line["num_examples"]) for line in told] == [(n, 20 * n) for n in range(1, 6)]
    assert newest(bench.store())["progress"]["global_step"] == 15


def test_a_round_ends_early_when_its_score_rises_no_more_and_the_next_one_begins_afresh(bench):
    settings = ("--epochs", "40", "--early_stopping_epochs", "3", "--learning_rate", "0.05")
    bench.write("0.jsonl", FIRST)
    bench.write("eval/0.jsonl", ids("a", 90, 96) + ids("b", 90, 96))
    first = bench.submit(*settings).said
    scores = [line["metrics"]["accuracy"] for line in bench.metrics(1)]
    best = scores.index(max(scores)) + 1
    assert first.outcome["epoch"] == len(scores) == best + 3 < 40
    assert f"plan        round 1 ends early: accuracy has not improved since epoch {best}\n" in first.out
    assert bench.submit(*settings).said.outcome["outcome"] == "nothing_new"
    bench.write("1.jsonl", SECOND)
    assert bench.submit(*settings).said.outcome["epoch"] >= first.outcome["epoch"] + 3


def test_json_lines_say_what_the_text_says(bench):
    bench.write("0.jsonl", FIRST)
    text = bench.submit("--epochs", "2", run=bench.inside.run.with_name("text")).said
    stopped = bench.submit("--epochs", "2", "--log_format", "json", code=143, stop_at=2).said
    said = bench.submit("--epochs", "2", "--log_format", "json").said
    lines = [json.loads(line) for line in (stopped.out + said.out).splitlines()]
    assert all({"time", "event", "message"} <= line.keys() for line in lines)
    assert [line["event"] for line in lines[:5]] == [line.split()[0] for line in text.out.splitlines()[:5]]
    epoch = next(line for line in lines if line["event"] == "epoch")
    assert (epoch["epoch"], epoch["num_examples"]) == (1, 32)
    assert [json.loads(line)["event"] for line in stopped.err.splitlines()] == ["error"]
    assert said.err == ""
