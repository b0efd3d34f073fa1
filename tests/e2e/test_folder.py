"""What stands in an output folder when the job comes back to it: whole, damaged, and somebody else's."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cloud.records import Record
from cloud.sealed import unseal
from tests.e2e.inside import IMAGES, Inside, copy_without_times, write_digits, write_points
from tests.e2e.points import plain_net

NOT_OURS = "not written by this job: it counts only in a folder without a record"


@pytest.fixture
def three(job: Inside) -> Inside:
    """A folder with the checkpoints of three attempts, one epoch each; the job now wants three epochs."""
    for epochs in (1, 2, 3):
        job.arguments = (*IMAGES, "--epochs", str(epochs))
        job.trained()
    return job


def rejected(said) -> dict[str, str]:
    return {one["name"]: one["reason"] for one in said.outcome["rejected"]}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = [
    (truncate, "ckpt_3-a3.pth", r"ckpt_3-a3.pth: [0-9,]+ bytes, the record says [0-9,]+: truncated"),
    (empty, "ckpt_3-a3.pth", "ckpt_3-a3.pth: empty"),
    (flip, "ckpt_3-a3.pth", "ckpt_3-a3.pth: digest of chunk 1 differs: damaged"),
    (flip, "ckpt_3-a3.json", "ckpt_3-a3.json: its digest differs: damaged"),
    (empty, "ckpt_3-a3.json", "ckpt_3-a3.json: does not end with its digest: truncated or damaged"),
    (Path.unlink, "ckpt_3-a3.pth", "ckpt_3-a3.pth: no object"),
    (Path.unlink, "ckpt_3-a3.json", "no record: never committed"),
]


@pytest.mark.parametrize(("damage", "name", "reason"), DAMAGES)
def test_a_damaged_newest_checkpoint_is_passed_over_with_its_reason(three, damage, name, reason):
    damage(three.run / name)
    said = three.trained()
    assert said.outcome["resumed_from"] == "ckpt_2-a2"
    assert rejected(said).keys() == {"ckpt_3-a3"}
    assert re.fullmatch(reason, rejected(said)["ckpt_3-a3"])
    assert said.err == f"perdure: warning: passed over ckpt_3-a3: {rejected(said)['ckpt_3-a3']}\n"
    assert (said.outcome["epoch"], said.outcome["num_examples_trained"]) == (3, 40)
    again = three.trained()
    assert (again.outcome["outcome"], again.outcome["resumed_from"]) == ("nothing_new", "ckpt_3-a4")


def test_what_only_looks_like_a_checkpoint_is_named_and_left_alone(three):
    content = {"net": {}, "optimizer": {}, "epoch": 99}
    strangers = ("old_ckpt_99.pth", "ckpt_7.pth", "ckpt_9-a9.pth.sagemaker-uploading")
    for name in strangers:
        torch.save(content, three.run / name)
    said = three.trained()
    assert said.outcome["resumed_from"] == "ckpt_3-a3"
    reasons = rejected(said)
    assert reasons.keys() == set(strangers)
    assert reasons["ckpt_7.pth"] == NOT_OURS
    assert reasons["ckpt_9-a9.pth.sagemaker-uploading"] == "a platform's unfinished upload"
    assert reasons["old_ckpt_99.pth"].startswith("not a checkpoint's name")
    assert all((three.run / name).exists() for name in strangers)


def test_where_all_are_damaged_only_start_over_trains_anew(three):
    for path in three.run.glob("ckpt_*.pth"):
        flip(path)
    said = three.submit()
    assert (said.code, said.outcome["exit_code"]) == (65, 65)
    assert "--start_over" in said.error
    assert rejected(said).keys() == {"ckpt_1-a1", "ckpt_2-a2", "ckpt_3-a3"}
    anew = three.trained("--start_over")
    assert (anew.outcome["resumed_from"], anew.outcome["num_examples_trained"]) == (None, 120)
    assert rejected(anew) == rejected(said)
    assert three.trained("--start_over").outcome["outcome"] == "nothing_new"


LEDGER = "ledger/round-0001-a1.jsonl.zst"


@pytest.mark.parametrize("damage", [flip, truncate, empty, Path.unlink])
def test_a_lost_ledger_is_rebuilt_from_the_data(three, tmp_path, damage):
    """Of the shards that were in it, wherever they lie now; its checkpoint is saved anew with it."""
    damage(three.run / LEDGER)
    write_digits(three.data / "2.tar", 40, 60)
    copy_without_times(three.data, tmp_path / "elsewhere")
    said = three.submit(data=tmp_path / "elsewhere")
    assert (said.code, said.outcome["resumed_from"], said.outcome["rejected"]) == (0, "ckpt_3-a3", [])
    assert said.err.startswith(f"perdure: warning: {LEDGER}: ")
    assert said.err.endswith("; rebuilt from the data, which agrees with its digest\n")
    assert (said.outcome["round"], said.outcome["appended_shards"]) == (2, ["2.tar"])
    again = three.trained()
    assert (again.outcome["resumed_from"], again.err) == ("ckpt_4-a4", "")


def test_what_was_rebuilt_is_whole_for_the_next_one_even_where_nothing_is_new(three):
    scores = unseal((three.run / "ckpt_3-a3.json").read_bytes(), Record).metrics
    flip(three.run / LEDGER)
    assert three.trained().outcome["outcome"] == "nothing_new"
    healed = unseal((three.run / "ckpt_3-a4.json").read_bytes(), Record)
    assert ([file.key for file in healed.ledgers], healed.metrics) == (["ledger/round-0001-a4.jsonl.zst"], scores)
    assert_equal_training(three.run / "ckpt_3-a4.pth", three.run / "ckpt_3-a3.pth")
    assert three.trained().err == ""


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda data: (data / "1.tar").unlink(), "1 of its 2 shards are gone"),
        (lambda data: write_digits(data / "1.tar", 60, 80), "its shards were edited since, or other settings"),
        (lambda data: (data / "1.tar").write_bytes(b"no tar"), "1.tar: cannot be read"),
    ],
)
def test_a_ledger_that_the_data_does_not_tell_any_longer_is_65(three, edit, words):
    flip(three.run / LEDGER)
    edit(three.data)
    text = three.refused(65)
    assert f"none of the 3 checkpoints in {three.run} can be used: {LEDGER}: digest of chunk 1 differs" in text
    assert f"it cannot be rebuilt from the data: {words}" in text and "--start_over" in text


def test_an_older_checkpoint_does_without_a_ledger_that_is_lost_for_good(three):
    write_digits(three.data / "2.tar", 40, 60)
    three.trained()
    flip(three.run / "ledger/round-0002-a4.jsonl.zst")
    write_digits(three.data / "2.tar", 60, 90)
    said = three.trained()
    assert (said.outcome["resumed_from"], said.outcome["round"]) == ("ckpt_3-a3", 2)
    assert "cannot be rebuilt from the data: its shards were edited" in rejected(said)["ckpt_4-a4"]


def test_what_was_rebuilt_for_a_checkpoint_that_is_given_up_is_not_in_the_way(three):
    """Round 2 can be rebuilt and round 3 cannot: from round 1 on another round 2 is formed, of all that is there."""
    for number in (2, 3):
        write_digits(three.data / f"{number}.tar", 20 * number, 20 * number + 20)
        three.trained()
    for path in (*three.run.glob("ledger/round-000[23]-*"), *three.run.glob("ckpt_4-a4.*")):
        path.unlink()
    write_digits(three.data / "3.tar", 80, 110)
    said = three.trained()
    assert (said.outcome["resumed_from"], said.outcome["round"]) == ("ckpt_3-a3", 2)
    assert said.outcome["appended_shards"] == ["2.tar", "3.tar"]


def test_several_rounds_are_rebuilt_with_what_was_edited_skipped_and_removed(points_job):
    job = points_job
    bad = ("--on_bad_example", "skip", "--replay", "1")
    (job.data / "bad.jsonl").write_text((job.data / "a.jsonl").read_text().replace("3", "x") + "{}\n")
    job.trained(*bad)
    write_points(job.data / "c.jsonl", 40, 60)
    (job.data / "b.jsonl").unlink()
    job.trained(*bad)
    write_points(job.data / "d.jsonl", 60, 70)
    write_points(job.data / "b.jsonl", 20, 40)
    job.trained(*bad)
    for path in (job.run / "ledger").iterdir():
        path.unlink()
    before = load(job.run / "ckpt_4-a3.pth")
    write_points(job.data / "e.jsonl", 70, 75)
    said = job.submit()
    assert (said.code, said.outcome["resumed_from"]) == (0, "ckpt_4-a3"), said.err
    after = load(job.run / "ckpt_4-a4.pth")
    assert [one["sha256"] for one in after["rounds"]] == [one["sha256"] for one in before["rounds"]]


def test_where_every_record_is_gone_and_metrics_tell_of_them_it_does_not_begin_anew(three):
    for path in three.run.glob("ckpt_*.json"):
        path.unlink()
    assert "no record of a checkpoint is left" in three.refused(65)
    assert three.trained("--start_over").outcome["num_examples_trained"] == 120


def test_start_over_has_no_effect_on_a_good_checkpoint(three):
    assert three.trained("--start_over").outcome["resumed_from"] == "ckpt_3-a3"
    flip(three.run / "ckpt_3-a3.pth")
    assert three.trained("--start_over").outcome["resumed_from"] == "ckpt_2-a2"


def test_data_copied_elsewhere_is_the_same_data(three, tmp_path):
    copy_without_times(three.data, tmp_path / "elsewhere")
    for place in (tmp_path / "elsewhere", f"{tmp_path}/elsewhere/", f"file://{tmp_path}/elsewhere"):
        said = three.submit(data=place)
        assert (said.code, said.outcome["outcome"]) == (0, "nothing_new"), said.err
    for path in three.data.iterdir():
        path.touch()
    assert three.trained().outcome["outcome"] == "nothing_new"


def test_a_folder_copied_elsewhere_is_the_same_folder(three, tmp_path):
    copy_without_times(three.run, tmp_path / "copy")
    three.run = tmp_path / "copy"
    assert three.trained().outcome["resumed_from"] == "ckpt_3-a3"
    assert three.submit(run=f"file://{three.run}/").outcome["resumed_from"] == "ckpt_3-a3"


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "adamw": lambda net: torch.optim.Adam(net.parameters(), lr=0.01),
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9),
}


def train_by_hand(folder: Path, name: str, epochs: range, kind: str = "adamw", net: nn.Module | None = None) -> None:
    """The training loop of somebody who saves in every epoch, as the published sample does."""
    torch.manual_seed(7)
    folder.mkdir(exist_ok=True)
    net = net or plain_net()
    optimizer = OPTIMIZERS[kind](net)
    for epoch in epochs:
        x = torch.randn(16, 2)
        loss = nn.functional.cross_entropy(net(x), (x[:, 0] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        content = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        torch.save(content, folder / name.format(epoch=epoch))


def plain(job: Inside, *more: str) -> Inside:
    job.arguments = (*job.arguments[:1], job.arguments[1].replace(":Points", ":Plain"), *more)
    return job


def load(path: Path):
    return torch.load(path, weights_only=True)


def moments(optimizer, net) -> dict[str, dict[str, Tensor]]:
    """An optimizer's state by parameter, as numbered when all are in one group, or as named."""
    order = list(net)
    numbered: dict[int, str] = {}
    for group in optimizer["param_groups"]:
        names = group.get("param_names", [order[number] for number in group["params"]])
        numbered |= dict(zip(group["params"], names, strict=True))
    return {numbered[number]: state for number, state in optimizer["state"].items()}


def assert_equal_training(ours: Path, theirs: Path) -> None:
    """Network and moments of two files are equal bit for bit."""
    one, other = load(ours), load(theirs)
    assert one["net"].keys() == other["net"].keys()
    assert all(torch.equal(one["net"][name], tensor) for name, tensor in other["net"].items())
    own, expected = (moments(content["optimizer"], content["net"]) for content in (one, other))
    assert own.keys() == expected.keys()
    for name, state in expected.items():
        assert all(torch.equal(own[name][field], value) for field, value in state.items()), name


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_of_somebodys_own_checkpoints_the_highest_epoch_is_continued(points_job, kind):
    job = plain(points_job, "--optimizer", kind, "--epochs", "100")
    for epoch in (9, 10, 100):
        train_by_hand(job.run, "ckpt_{epoch}.pth", range(epoch, epoch + 1), kind)
    adopted = job.trained()
    assert (adopted.outcome["resumed_from"], adopted.outcome["epoch"]) == ("ckpt_100.pth", 100)
    (ours,) = job.run.glob("ckpt_100_*.pth")
    assert_equal_training(ours, job.run / "ckpt_100.pth")
    on = job.trained("--epochs", "102")
    assert (on.outcome["epoch"], on.outcome["num_examples_trained"]) == (102, 80)
    assert on.outcome["first_global_step"] == adopted.outcome["last_global_step"] == 200
    assert load(job.run / "ckpt_102-a2.pth")["epoch"] == 102


def test_what_is_appended_after_the_switch_is_new(points_job):
    """Even where no epoch was left to train when the folder was taken over."""
    job = plain(points_job, "--epochs", "3", "--old_data", "none")
    train_by_hand(job.run, "ckpt_{epoch}.pth", range(1, 4))
    job.trained()
    shutil.copyfile(job.data / "a.jsonl", job.data / "c.jsonl")
    said = job.trained()
    assert (said.outcome["appended_shards"], said.outcome["new_examples"]) == (["c.jsonl"], 20)
    assert (said.outcome["round"], said.outcome["epoch"], said.outcome["num_examples_trained"]) == (2, 4, 20)


def test_a_truncated_own_checkpoint_is_passed_over(points_job):
    job = plain(points_job, "--epochs", "12")
    for epoch in (9, 10, 100):
        train_by_hand(job.run, "ckpt_{epoch}.pth", range(epoch, epoch + 1))
    truncate(job.run / "ckpt_100.pth")
    said = job.trained()
    assert (said.outcome["resumed_from"], said.outcome["epoch"]) == ("ckpt_10.pth", 12)
    assert rejected(said).keys() == {"ckpt_100.pth"}
    assert "torch.load cannot read it: PytorchStreamReader failed reading zip archive" in rejected(said)["ckpt_100.pth"]


def test_the_folder_of_the_published_sample_is_continued(points_job):
    job = plain(points_job, "--epochs", "6")
    train_by_hand(job.run, "ckpt_best_{epoch}.pth", range(1, 5))
    said = job.trained()
    assert (said.outcome["resumed_from"], said.outcome["epoch"]) == ("ckpt_best_4.pth", 6)
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith("epoch ")] == ["5:", "6:"]
    again = job.trained()
    assert (again.outcome["outcome"], again.outcome["resumed_from"]) == ("nothing_new", "ckpt_6-a1")
    assert set(rejected(again).values()) == {NOT_OURS}
    assert again.err.count("\n") == 1, "one line for all that are passed over for one reason"


def test_the_names_that_data_parallel_writes_are_those_of_the_network(points_job):
    job = plain(points_job, "--epochs", "4")
    train_by_hand(job.run, "ckpt_{epoch}.pth", range(1, 4), net=nn.DataParallel(plain_net()))
    assert job.trained().outcome["resumed_from"] == "ckpt_3.pth"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--set", "hidden=16"), "net: 0.weight: found shape (8, 2), expected (16, 2)"),
        (("--optimizer", "sgd"), "optimizer: found step for 0.weight, expected the state of --optimizer sgd"),
    ],
)
def test_an_own_checkpoint_that_does_not_fit_is_78_and_never_passed_over(points_job, more, words):
    job = plain(points_job, "--epochs", "4")
    train_by_hand(job.run, "ckpt_{epoch}.pth", range(1, 4))
    text = job.refused(78, *more)
    assert text.startswith(f"ckpt_3.pth in {job.run} does not fit this task: {words}")
    assert job.trained().outcome["resumed_from"] == "ckpt_3.pth"


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def fitting() -> dict:
    net = plain_net()
    return {"net": net.state_dict(), "optimizer": torch.optim.Adam(net.parameters()).state_dict(), "epoch": 3}


UNREADABLE = [
    (lambda path: {**fitting(), "x": Canary(path)}, "which might run code"),
    (lambda _: plain_net(), "which might run code"),
    (lambda _: [fitting()], "holds a list, expected a dict with net, optimizer, epoch"),
    (lambda _: plain_net().state_dict(), "net: found nothing, expected dict"),
    (lambda _: {**fitting(), "epoch": "3"}, "epoch: found str, expected int"),
    (lambda _: {**fitting(), "epoch": -3}, "epoch: found -3, expected 0 or more"),
    (lambda _: {**fitting(), "net": {"0.weight": 1.0}}, "net: holds a float as '0.weight'"),
    (lambda _: {**fitting(), "optimizer": {}}, "optimizer: holds no optimizer's state_dict"),
    (lambda _: {**fitting(), "optimizer": {"param_groups": "ab", "state": 1}}, "optimizer: holds no optimizer's"),
    (lambda _: {**fitting(), "format": 2}, "format 2, this version reads 1"),
    (lambda _: {**fitting(), "format": 1}, "progress: found nothing"),
]


@pytest.mark.parametrize(("content", "words"), UNREADABLE)
def test_a_file_that_is_no_checkpoint_is_refused_and_never_executed(points_job, tmp_path, content, words):
    job, canary = plain(points_job, "--epochs", "2"), tmp_path / "canary"
    job.run.mkdir()
    torch.save(content(canary), job.run / "ckpt_3.pth")
    text = job.refused(65)
    assert text.startswith(f"no checkpoint in {job.run} can be read (ckpt_3.pth: ")
    assert words in text
    assert job.trained("--start_over").outcome["resumed_from"] is None
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 and so on", b"\x80\x02}q\x00."])
def test_bytes_that_are_no_file_of_torch_are_refused(points_job, content):
    job = plain(points_job, "--epochs", "2")
    job.run.mkdir()
    (job.run / "ckpt_3.pth").write_bytes(content)
    assert "ckpt_3.pth" in job.refused(65)
    assert (job.run / "ckpt_3.pth").read_bytes() == content


def test_new_shards_in_a_folder_of_three_attempts_form_a_round(three):
    write_digits(three.data / "2.tar", 40, 60)
    said = three.trained()
    assert (said.outcome["resumed_from"], said.outcome["round"], said.outcome["epoch"]) == ("ckpt_3-a3", 2, 4)
