"""What is trained in which round: counted by the task itself, from the first submission to the last."""

import gzip
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from cloud.open import open_store
from cloud.store import Store
from entrypoint.__main__ import main
from tests.e2e.inside import IMAGES, Inside, write_digits
from tests.e2e.noted import ARGUMENTS, Bench, Noted, Notes, content, ids
from tests.e2e.submit import assert_same_training, newest


@pytest.fixture
def bench(job: Inside) -> Bench:
    """Task `Noted`, no shards yet."""
    for path in job.data.iterdir():
        path.unlink()
    job.arguments = ARGUMENTS
    return Bench(job)


FIRST, SECOND, THIRD = ids("a", 0, 20) + ids("b", 0, 12), ids("c", 0, 8), ids("d", 0, 8) + ids("a", 20, 24)


def three_rounds(bench: Bench, *settings: str) -> list:
    """Labels appear in each; the first round trains 2 epochs, later ones 1."""
    rounds = []
    for name, members in (("0.jsonl", FIRST), ("1.jsonl", SECOND), ("2.jsonl", THIRD)):
        bench.write(name, members)
        rounds.append(bench.submit("--epochs", "2", "--finetune_epochs", "1", *settings))
    return rounds


@pytest.mark.parametrize(
    ("settings", "old"),
    [
        ((), [{"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}]),
        (("--replay", "1"), [{"a": 4, "b": 4}, {"a": 4, "b": 4, "c": 4}]),
        (("--replay", "3"), [{"a": 12, "b": 12}, {"a": 16, "b": 12, "c": 8}]),
        (("--replay", "0"), [{}, {}]),
        (("--old_data", "none"), [{}, {}]),
        (("--old_data", "all"), [{"a": 20, "b": 12}, {"a": 20, "b": 12, "c": 8}]),
    ],
)
def test_a_round_trains_its_new_examples_and_as_many_old_ones_as_it_says(bench, settings, old):
    rounds = three_rounds(bench, *settings)
    assert rounds[0].trained == dict.fromkeys(FIRST, 2)
    known = set(FIRST)
    for number, members, shares in ((2, SECOND, old[0]), (3, THIRD, old[1])):
        trained = rounds[number - 1].trained
        assert {name: trained[name] for name in members} == dict.fromkeys(members, 1)
        drawn = set(trained) - set(members)
        assert drawn <= known
        assert rounds[number - 1].labels(drawn) == shares
        assert all(trained[name] == 1 for name in drawn)
        header, *lines = bench.ledger(number)
        assert (header["num_new"], header["num_old"]) == (len(members), sum(shares.values()))
        assert len([line for line in lines if line["kind"] == "replay"]) == (number - 1 if shares else 0)
        outcome = rounds[number - 1].said.outcome
        assert outcome["num_examples_trained"] == trained.total() == len(members) + sum(shares.values())
        assert (outcome["new_examples"], outcome["round"], outcome["epoch"]) == (len(members), number, number + 1)
        known |= set(members)


def test_an_undisturbed_run_repeats_the_rounds_and_draws_the_same_old_examples(bench, tmp_path):
    bench.write("0.jsonl", FIRST)
    epochs = ("--epochs", "2", "--replay", "1")
    rounds = [bench.submit(*epochs, code=143, stop_at=3), bench.submit(*epochs)]
    bench.write("1.jsonl", SECOND)
    rounds += [bench.submit(*epochs, code=143, stop_at=1), bench.submit(*epochs)]
    bench.write("2.jsonl", THIRD)
    rounds += [bench.submit(*epochs)]
    calm = bench.submit(*epochs, "--rounds_from", bench.inside.run, run=tmp_path / "calm")
    assert calm.said.outcome == {}
    assert_same_training(bench.store(), bench.store(tmp_path / "calm"))
    for number in (1, 2, 3):
        told, again = bench.ledger(number), bench.ledger(number, tmp_path / "calm")
        assert told[1:] == again[1:]
    assert set(calm.trained) == set().union(*(one.trained for one in rounds))


def test_how_long_later_rounds_last(bench):
    bench.write("0.jsonl", FIRST)
    bench.submit("--epochs", "5")
    bench.write("1.jsonl", SECOND)
    assert bench.submit("--epochs", "5", "--epoch_fraction", "0.5").said.outcome["epoch"] == 5 + 3
    bench.write("2.jsonl", THIRD)
    assert bench.submit("--epochs", "5", "--finetune_epochs", "2").said.outcome["epoch"] == 5 + 3 + 2


def test_epochs_raised_and_lowered_hold_for_the_newest_round_only(bench):
    bench.write("0.jsonl", FIRST)
    assert bench.submit("--epochs", "2").said.outcome["epoch"] == 2
    assert bench.submit("--epochs", "3").said.outcome["epoch"] == 3
    lowered = bench.submit("--epochs", "1").said
    assert (lowered.outcome["outcome"], lowered.outcome["epoch"]) == ("nothing_new", 3)
    stopped = bench.submit("--epochs", "6", code=143, stop_at=6).said  # in the middle of the fifth epoch
    assert (stopped.outcome["epoch"], stopped.outcome["last_global_step"]) == (4, 3 * 4 + 6)
    assert bench.submit("--epochs", "2").said.outcome["epoch"] == 5  # which is ended, and no more
    bench.write("1.jsonl", SECOND)
    assert bench.submit("--epochs", "5").said.outcome["epoch"] == 5 + 1
    raised = bench.submit("--epochs", "15").said.outcome  # round 1 is over, whatever it lasted
    assert (raised["round"], raised["epoch"]) == (2, 5 + 3)


def test_a_last_batch_and_a_round_of_one_example(bench):
    """BatchNorm cannot normalise over one example; nobody's number of examples is to blame for that."""
    bench.write("0.jsonl", ids("a", 0, 9) + ids("b", 0, 8))
    assert bench.submit("--epochs", "2").said.outcome["last_global_step"] == 2 * 3
    bench.write("1.jsonl", ["c0"])
    assert bench.submit("--epochs", "2").trained == {"c0": 1}


def test_shards_that_arrive_during_a_round_form_the_next_one_in_the_same_submission(bench):
    bench.write("0.jsonl", FIRST)
    bench.submit("--epochs", "2", code=143, stop_at=5)
    bench.write("1.jsonl", SECOND)
    rest = bench.submit("--epochs", "2")
    assert rest.said.outcome["round"] == 2
    assert rest.said.outcome["appended_shards"] == ["1.jsonl"]
    lines = [line for line in rest.said.out.splitlines() if line.split()[0] in ("data", "plan")]
    assert lines == [
        "data        1 shard as before, 1 waiting for the next round",
        "plan        round 1: 2 epochs over 32 new from example 40 of 64, 3 steps, about 0 s",
        "data        1 shard as before, 1 new shard: 8 examples, new label 'c'",
        "plan        round 2: 1 epoch over 8 new + 2 old, 2 steps, about 0 s",
        "data        2 shards as before, none new",
    ]


def test_evaluation_shards_are_told_apart_by_round_and_by_label_and_start_no_round(bench):
    bench.write("0.jsonl", FIRST)
    bench.write("eval/0.jsonl", ids("a", 90, 96) + ids("b", 90, 94))
    bench.submit("--epochs", "1")
    bench.write("eval/1.jsonl", ids("c", 90, 95))
    waiting = bench.submit("--epochs", "1").said
    assert waiting.outcome["outcome"] == "nothing_new"
    bench.write("1.jsonl", SECOND)
    second = bench.submit("--epochs", "1")
    assert not set(second.trained) & set(ids("a", 90, 96) + ids("b", 90, 94) + ids("c", 90, 95))
    metrics = bench.metrics(3)[-1]["metrics"]
    assert metrics["num_examples"] == 15
    by_round = {number: scores["num_examples"] for number, scores in metrics["by_round"].items()}
    by_label = {number: scores["num_examples"] for number, scores in metrics["by_label_round"].items()}
    assert by_round == by_label == {"1": 10, "2": 5}
    assert "(old labels " in second.said.out.splitlines()[-1]


def test_evaluation_shards_that_lie_elsewhere(bench, tmp_path):
    bench.write("0.jsonl", FIRST)
    elsewhere = tmp_path / "elsewhere" / "deep" / "9.jsonl"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(content(ids("a", 90, 96)))
    one = bench.submit("--epochs", "1", "--eval_url", tmp_path / "elsewhere")
    assert one.notes.evaluated == dict.fromkeys(ids("a", 90, 96), 1)
    assert [line["key"] for line in bench.ledger(1)[1:]] == ["0.jsonl", "eval/deep/9.jsonl"]


def test_held_out_examples_are_the_same_in_whatever_shard_they_lie_and_never_trained(bench, tmp_path):
    held = []
    everything = FIRST + SECOND
    for number, cut in enumerate((10, 25)):
        bench.write("0.jsonl", everything[:cut])
        bench.write("1.jsonl", everything[cut:])
        bench.inside.run = tmp_path / f"run-{number}"
        one = bench.submit("--epochs", "1", "--eval_fraction", "0.3")
        held.append(set(one.notes.evaluated))
        assert one.trained == dict.fromkeys(set(everything) - held[-1], 1)
    assert held[0] == held[1]
    assert 4 < len(held[0]) < 20
    bench.write("2.jsonl", [*held[0], *THIRD])
    two = bench.submit("--epochs", "1", "--eval_fraction", "0.3", "--old_data", "all")
    assert not set(two.trained) & held[0]
    assert set(two.trained) | set(two.notes.evaluated) == {*everything, *THIRD}


def test_whether_examples_are_held_out_is_settled_by_the_first_round(bench, tmp_path):
    settings = ("--epochs", "1", "--eval_fraction", "0.3")
    bench.write("0.jsonl", FIRST)
    held = set(bench.submit(*settings).notes.evaluated)
    bench.write("eval/0.jsonl", ids("a", 90, 95))
    bench.write("1.jsonl", [*held, *SECOND])
    second = bench.submit(*settings)
    assert held and not held & set(second.trained)
    third = bench.submit(*settings, run=tmp_path / "with evaluation shards")
    bench.write("2.jsonl", THIRD)
    fourth = bench.submit(*settings, run=tmp_path / "with evaluation shards")
    assert set(third.notes.evaluated) == set(fourth.notes.evaluated) == set(ids("a", 90, 95))
    assert set(THIRD) <= set(fourth.trained)


def test_one_file_that_is_edited_again_and_again(bench):
    """Each time its new examples are a round; what vanished is never trained again; the counts are said."""
    settings = ("--epochs", "2", "--finetune_epochs", "1", "--replay", "100")
    bench.write("0.jsonl", FIRST)
    bench.submit(*settings)
    members = ids("c", 0, 5) + ids("a", 5, 20) + ids("b", 0, 12)  # in another order, a0 .. a4 gone
    bench.write("0.jsonl", members)
    second = bench.submit(*settings)
    assert second.trained == dict.fromkeys(members, 1)
    assert "1 edited shard: 5 new examples, 5 vanished, new label 'c'" in second.said.out
    assert second.said.outcome["changed_shards"] == ["0.jsonl"]
    members = ids("d", 0, 3) + ids("c", 1, 5) + ids("a", 2, 20)  # a2 .. a4 are back, c0 and all b gone
    bench.write("0.jsonl", members)
    third = bench.submit(*settings)
    assert third.trained == dict.fromkeys(members, 1)
    assert bench.submit(*settings).said.outcome["outcome"] == "nothing_new"
    bench.write("0.jsonl", members[5:])  # only less of it: nothing to train
    assert bench.submit(*settings).said.outcome["outcome"] == "nothing_new"
    bench.write("1.jsonl", ids("e", 0, 4))
    fourth = bench.submit(*settings)
    assert fourth.trained == dict.fromkeys([*members[5:], *ids("e", 0, 4)], 1)


def test_a_task_without_keys_refuses_a_changed_shard_and_can_be_told_to_go_on(bench):
    bench.inside.arguments = ("--task", "tests.e2e.noted:Keyless", *ARGUMENTS[2:])
    bench.write("0.jsonl", FIRST)
    bench.write("1.jsonl", SECOND)
    bench.submit("--epochs", "1")
    bench.write("0.jsonl", FIRST[1:])
    refused = bench.submit("--epochs", "1", code=65).said
    assert refused.error.startswith("0.jsonl: its content changed after it was trained; ")
    assert refused.error.endswith("--on_changed_shard ignore")
    bench.write("2.jsonl", THIRD)
    told = bench.submit("--epochs", "1", "--on_changed_shard", "ignore", "--old_data", "all")
    assert told.trained == dict.fromkeys([*SECOND, *THIRD], 1)  # what it was is no longer there to be replayed


def test_changed_and_removed_shards_can_be_made_an_error(bench):
    bench.write("0.jsonl", FIRST)
    bench.write("1.jsonl", SECOND)
    bench.submit("--epochs", "1")
    bench.write("0.jsonl", FIRST[1:])
    assert "0.jsonl: its content changed" in bench.submit(
        "--epochs", "1", "--on_changed_shard", "fail", code=65
    ).said.error
    bench.write("0.jsonl", FIRST)
    (bench.inside.data / "1.jsonl").unlink()
    refused = bench.submit("--epochs", "1", "--on_removed_shard", "fail", code=65).said
    assert refused.error.startswith("1.jsonl: trained before, and gone; restore it")
    bench.write("2.jsonl", THIRD)
    told = bench.submit("--epochs", "1", "--old_data", "all")
    assert told.trained == dict.fromkeys([*FIRST, *THIRD], 1)
    assert told.said.outcome["removed_shards"] == ["1.jsonl"]
    assert "1 shard gone since trained: 1.jsonl" in told.said.out


def test_a_shard_of_an_unfinished_round_must_stay_as_it_is(bench):
    bench.write("0.jsonl", FIRST)
    bench.write("1.jsonl", SECOND)
    bench.submit("--epochs", "2", code=143, stop_at=2)
    bench.write("0.jsonl", FIRST[1:])
    assert "0.jsonl: changed, and round 1, which needs it, is unfinished" in bench.submit(
        "--epochs", "2", code=65
    ).said.error
    bench.write("0.jsonl", FIRST)
    (bench.inside.data / "1.jsonl").rename(bench.inside.data / "elsewhere")
    assert "1.jsonl: gone, and round 1" in bench.submit("--epochs", "2", code=65).said.error
    (bench.inside.data / "elsewhere").rename(bench.inside.data / "1.jsonl")
    assert bench.submit("--epochs", "2").said.outcome["epoch"] == 2


def index(bench: Bench, data: object) -> int:
    """The index by a machine that shares no cache with the job."""
    Noted.notes = Notes()
    return main(["index", "--data_url", str(data), "--cache_dir", f"{bench.inside.run}-cache", *ARGUMENTS])


def test_an_index_spares_the_census(bench, tmp_path):
    bench.write("0.jsonl", FIRST)
    bench.write("eval/0.jsonl", ids("a", 90, 95))
    bench.submit("--epochs", "1", run=tmp_path / "without")
    assert index(bench, bench.inside.data) == 0
    one = bench.submit("--epochs", "1")
    assert not one.notes.keys
    bench.write("1.jsonl", SECOND)
    two = bench.submit("--epochs", "1")
    assert set(two.notes.keys) == set(SECOND)
    with_index, without = bench.ledger(1), bench.ledger(1, tmp_path / "without")
    assert with_index == without


@pytest.mark.parametrize("place", ["local", "memory"])
def test_an_index_that_is_out_of_date_is_found_out(bench, place):
    data = bench.inside.data if place == "local" else f"memory://index-{os.getpid()}/data"
    store = open_store(str(data), writable=True)
    store.put("0.jsonl", content(FIRST))
    assert index(bench, data) == 0
    size = len(content([FIRST[-1]]))
    other = next(name for name in ids("c", 50, 99) if len(content([name])) == size)
    store.put("0.jsonl", content([*FIRST[:-1], other]))
    refused = bench.submit("--epochs", "1", code=65, data=data).said
    assert "0.jsonl" in refused.error and "perdure index" in refused.error
    assert index(bench, data) == 0
    assert bench.submit("--epochs", "1", data=data).said.outcome["outcome"] == "done"


def memory(bench: Bench, name: str) -> tuple[str, Store]:
    """A place that is no folder, and lasts as long as the process."""
    url = f"memory://{name}-{os.getpid()}-{bench.inside.run.parent.name}/data"
    return url, open_store(url, writable=True)


def test_data_copied_to_other_versions_is_compared_within_a_small_cache(bench):
    url, data = memory(bench, "copied")
    shards = {f"{number}.jsonl": content(ids("ab"[number % 2], 9 * number, 9 * number + 9)) for number in range(8)}
    for name, lines in shards.items():
        data.put(name, lines)
    cache = ("--cache_bytes", 2 * max(map(len, shards.values())), "--epochs", "1")
    bench.submit(*cache, data=url)
    for name, lines in shards.items():
        data.put(name, lines)
    assert bench.submit(*cache, data=url).said.outcome["outcome"] == "nothing_new"


def test_a_cache_that_may_turn_out_too_small_is_refused_at_once(bench):
    url, data = memory(bench, "large")
    data.put("0.jsonl", content(FIRST))
    size = len(content(FIRST))
    refused = bench.submit("--cache_bytes", 2 * size - 1, data=url, code=78)
    assert refused.said.error == (
        f"0.jsonl: {size:,} bytes, more than half of --cache_bytes {2 * size - 1:,}; raise it to {2 * size:,} or more"
    )
    bench.write("0.jsonl", FIRST)
    bench.submit("--cache_bytes", "1", "--epochs", "1")  # a folder is read in place
