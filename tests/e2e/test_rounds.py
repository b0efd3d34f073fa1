"""What is trained in which round: counted by the task itself, from the first submission to the last."""

import pytest

from tests.e2e.noted import FIRST, SECOND, THIRD, Bench, content, ids
from tests.e2e.submit import assert_same_training


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
