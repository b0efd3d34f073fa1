"""A new folder that begins with another run's network: `--init_from`."""

import itertools

import torch

from tests.e2e.inside import IMAGES
from tests.e2e.noted import FIRST, SECOND, ids
from tests.e2e.submit import newest


def test_a_new_folder_goes_on_from_another_runs_newest_checkpoint(bench, tmp_path):
    """What it is told to train are the epochs of a later round; it counts from its own beginning."""
    bench.write("0.jsonl", FIRST)
    bench.submit("--epochs", "5")
    first = newest(bench.store())
    other, run = tmp_path / "other", ("--epochs", "5", "--init_from", bench.inside.run)
    bench.write("1.jsonl", SECOND)
    began = bench.submit(*run, run=other)
    assert f"none: a new run that begins with ckpt_5-a1 of {bench.inside.run}" in began.said.out
    assert "new label 'c'" in began.said.out, "the others it knew already"
    assert began.trained == dict.fromkeys([*FIRST, *SECOND], 1)
    then = newest(bench.store(other))
    assert (then["epoch"], then["global_step"], then["progress"]["round"]) == (1, 5, 1)
    assert then["vocabulary"]["label"] == [["a", "b"], ["c"]]
    steps = [state["step"].item() for state in then["optimizer"]["state"].values()]
    assert sorted(set(steps)) == [5, first["global_step"] + 5], "outputs for new labels have no past"
    assert bench.ledger(1, other)[0]["starts_from"] == f"ckpt_5-a1 of {bench.inside.run}"


def test_killed_and_submitted_again_it_continues_its_own(bench, tmp_path):
    bench.write("0.jsonl", FIRST)
    bench.submit("--epochs", "2")
    other, run = tmp_path / "other", ("--epochs", "10", "--init_from", bench.inside.run)
    bench.submit(*run, run=other, code=143, stop_at=3)
    bench.submit("--epochs", "3")  # the run it came from goes on, which is nothing to it
    assert "ckpt_0_3-a1 (epoch 0, step 3)  verified" in bench.submit(*run, run=other).said.out
    calm = tmp_path / "calm"
    bench.submit("--epochs", "2", run=tmp_path / "base")
    bench.submit("--epochs", "10", "--init_from", tmp_path / "base", run=calm)
    one, two = newest(bench.store(other)), newest(bench.store(calm))
    assert all(torch.equal(one["net"][name], two["net"][name]) for name in two["net"])
    bench.write("1.jsonl", ids("c", 0, 9))
    assert "round 2: 2 epochs over 9 new" in bench.submit(*run, run=other).said.out


def test_what_does_not_fit_is_named_with_found_and_expected(job, tmp_path):
    job.trained()
    new = ("--init_from", job.run)
    text = job.submit(*new, "--set", "width=8", run=tmp_path / "new").error
    assert text.startswith(f"--set width: found 4 in --init_from {job.run}, expected 8; ")
    assert job.trained(*new).outcome["outcome"] == "nothing_new", "it has one of its own"
    itself = tmp_path / "itself"
    assert "is --train_url itself" in job.submit("--init_from", itself, run=itself).error
    (empty := tmp_path / "empty").mkdir()
    for setting, url in itertools.product(("--init_from", "--rounds_from"), (empty, tmp_path / "nowhere")):
        said = job.submit(setting, url, run=tmp_path / "b")
        assert (said.code, said.error) == (78, f"{setting} {url}: no checkpoint there; name the output folder of a run")
    sgd = job.submit(*new, "--optimizer", "sgd", "--momentum", "0", "--schedule", "constant", run=tmp_path / "sgd")
    assert sgd.code == 0, sgd.err
    job.arguments = ("--task", "tests.e2e.noted:Noted", *IMAGES[2:4])
    assert "--task: found images in --init_from" in job.submit(*new, run=tmp_path / "c").error
