"""Shards that are edited, or gone: what is new in them is trained, and nothing that is not there any more."""

from tests.e2e.noted import ARGUMENTS, FIRST, SECOND, THIRD, ids


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
    assert (
        "0.jsonl: its content changed"
        in bench.submit("--epochs", "1", "--on_changed_shard", "fail", code=65).said.error
    )
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
    assert (
        "0.jsonl: changed, and round 1, which needs it, is unfinished"
        in bench.submit("--epochs", "2", code=65).said.error
    )
    bench.write("0.jsonl", FIRST)
    (bench.inside.data / "1.jsonl").rename(bench.inside.data / "elsewhere")
    assert "1.jsonl: gone, and round 1" in bench.submit("--epochs", "2", code=65).said.error
    (bench.inside.data / "elsewhere").rename(bench.inside.data / "1.jsonl")
    assert bench.submit("--epochs", "2").said.outcome["epoch"] == 2
