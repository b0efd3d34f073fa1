"""`perdure verify`: a look at the whole folder, the newest steps taken again, and nothing written."""

import json
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from cloud.audit import Audit
from cloud.open import open_store
from cloud.records import FileDigest, Record
from cloud.sealed import seal, unseal
from cloud.transfer import Digester, no_check
from entrypoint.__main__ import main
from entrypoint.saver import Saver
from tests.e2e.inside import Inside, write_digits
from tests.trainer.tasks.nlu.encoders import write_encoder


def verify(job: Inside, *more: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; and see that nothing in the folder was touched."""
    before = contents(job.run)
    job.capfd.readouterr()
    code = main(["verify", "--train_url", str(job.run), *map(str, more)], root=job.data.parent / "no platform")
    out, err = job.capfd.readouterr()
    assert contents(job.run) == before
    return code, out, err


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def change(run: Path, name: str, edit: Any) -> None:
    """Edit the content of a checkpoint and write a record that fits its new bytes."""
    path = run / f"{name}.pth"
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)
    digester = Digester(chunked=True)
    digester.update(path.read_bytes())
    record = unseal((run / f"{name}.json").read_bytes(), Record)
    file = FileDigest(key=path.name, size=digester.size, chunks=digester.chunks())
    (run / f"{name}.json").write_bytes(seal(record.model_copy(update={"object": file})))


def nudge(content: dict[str, Any]) -> None:
    """One number of the network becomes the next one that there is."""
    name = next(name for name, tensor in content["net"].items() if tensor.ndim > 1)
    flat = content["net"][name].reshape(-1)
    flat[0] = torch.nextafter(flat[0], torch.tensor(9.0))


def test_a_good_folder_is_ok_and_the_next_submission_is_foretold(job):
    job.trained("--epochs", "2")
    code, out, err = verify(job)
    assert (code, err) == (0, "")
    assert re.search(r"ckpt_2-a1 +ok +epoch 2, step 4, round 1: [0-9,]+ bytes\n", out)
    assert re.search(r"model/config.json +ok +epoch 2, step 4\n", out)
    assert out.endswith("ok          ckpt_2-a1 is what the next submission continues from\n")
    assert "loaded" in verify(job, "--deep")[1]


def test_damage_is_65_with_the_first_of_it_and_what_remains(job):
    job.trained("--epochs", "2")
    weights = job.run / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (job.run / "ckpt_2-a1.pth").unlink()
    code, out, err = verify(job)
    assert code == 65
    assert re.search(r"ckpt_2-a1 +missing +ckpt_2-a1.pth: no object\n", out)
    assert re.search(r"model/config.json +damaged +model/model.safetensors: [0-9,]+ bytes, the record says", out)
    assert err == (
        "perdure: error: 2 of 6 files are not as they were written, the first: ckpt_2-a1.pth: no object; "
        "ckpt_1-a1 is what the next submission continues from\n"
    )
    job.trained("--epochs", "2")
    whole = verify(job)
    assert (whole[0], "model/config.json" in whole[2]) == (65, False), "what is left is the record without its object"
    (job.run / "ckpt_2-a1.json").unlink()
    assert verify(job)[0] == 0


def test_as_json_each_file_is_told_for_programs(job):
    job.trained()
    code, out, _ = verify(job, "--log_format", "json")
    found = next(line for line in map(json.loads, out.splitlines()) if line["event"] == "verify")
    assert code == 0 and {"key": "ckpt_1-a1", "state": "ok"}.items() <= found["findings"][0].items()


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, lambda path: write_digits(path / "0.tar", 0, 9)])
def test_where_nothing_of_a_run_is_that_is_said(job, make):
    make(job.run)
    code, out, err = verify(job)
    assert (code, out) == (65, "")
    assert err == f"perdure: error: {job.run}: nothing of a run is there; name its --train_url\n"


def test_what_cannot_be_loaded_or_is_not_as_its_record_says_is_found_by_a_deep_look(job):
    job.trained("--epochs", "3", "--keep_last", "3")
    change(job.run, "ckpt_3-a1", lambda content: content["net"].popitem()[1].fill_(float("nan")))
    change(job.run, "ckpt_2-a1", nudge)
    change(job.run, "ckpt_1-a1", lambda content: content.update(format=9))
    assert verify(job)[0] == 0
    code, out, err = verify(job, "--deep")
    assert code == 65 and err.endswith("no checkpoint remains to continue from\n")
    assert re.search(r"ckpt_2-a1 +damaged +net_sha256: found", out)
    assert re.search(r"ckpt_1-a1 +damaged +ckpt_1-a1.pth: format 9, this version reads 1", out)


def test_the_newest_steps_taken_again_are_the_same_bit_for_bit(job):
    """From the beginning, within a round under other settings of today, and over the border to the next round."""
    data = ("--data_url", job.data, "--retrain")
    job.trained()
    assert "retrain     ckpt_1-a1 from the beginning: 2 steps taken again on cpu: bit for bit" in verify(job, *data)[1]
    job.trained("--epochs", "2", "--weight_decay", "0.3", "--learning_rate_factor", "0.5")
    assert "retrain     ckpt_2-a2 from ckpt_1-a1: 2 steps taken again on cpu: bit for bit" in verify(job, *data)[1]
    write_digits(job.data / "2.tar", 40, 70)
    job.trained("--epochs", "2", "--optimizer", "sgd")
    code, out, err = verify(job, *data, "--epochs", "7")
    assert (code, err) == (0, "")
    assert "retrain     ckpt_3-a3 from ckpt_2-a2: 2 steps taken again on cpu: bit for bit the same\n" in out


def test_a_network_that_its_steps_do_not_lead_to_is_found(job):
    job.trained("--epochs", "2")
    change(job.run, "ckpt_2-a1", nudge)
    code, out, err = verify(job, "--data_url", job.data, "--retrain")
    assert code == 65 and "bit for bit" not in out
    assert re.fullmatch(
        r"perdure: error: ckpt_2-a1 from ckpt_1-a1: 2 steps taken again on cpu: "
        r"net\.\S+ differs in 1 of [0-9]+ numbers, by [0-9.e-]+ at most\n",
        err,
    )


def test_from_and_to_the_middle_of_an_epoch(points_job, monkeypatch):
    """Checkpoints in the middle are saved by the clock: here, after the fifth step of an epoch."""
    job, steps = points_job, iter(range(1, 99))
    monkeypatch.setattr(Saver, "due", lambda _: next(steps) % 10 == 5)
    job.arguments = (*job.arguments, "--batch_size", "4")
    job.trained()
    again = (*job.arguments[:2], "--data_url", job.data, "--retrain")
    assert "ckpt_2-a1 from ckpt_1_15-a1: 5 steps taken again on cpu: bit for bit the same" in verify(job, *again)[1]
    for path in job.run.glob("ckpt_2-*"):
        path.unlink()
    assert "ckpt_1_15-a1 from ckpt_1-a1: 5 steps taken again on cpu: bit for bit the same" in verify(job, *again)[1]


def test_what_retraining_needs_is_asked_for(points_job):
    points_job.trained()
    assert "--data_url: is required for --retrain" in verify(points_job, "--retrain")[2]
    needs = verify(points_job, "--retrain", "--data_url", points_job.data)
    assert needs[0] == 78 and "--task: is required: the folder was trained with Points, of a file" in needs[2]
    other = verify(points_job, "--retrain", "--data_url", points_job.data, "--task", "images")
    assert other[0] == 78 and "the folder was trained with Points" in other[2]


def test_shards_that_are_gone_or_edited_are_said(job):
    job.trained("--epochs", "2")
    shutil.copyfile(job.data / "0.tar", job.data / "1.tar")
    code, _, err = verify(job, "--data_url", job.data, "--retrain")
    assert code == 65 and err.startswith("perdure: error: 1.tar: edited since it was trained")
    (job.data / "1.tar").unlink()
    code, _, err = verify(job, "--data_url", job.data, "--retrain")
    assert code == 65 and err.startswith("perdure: error: 1.tar: gone since it was trained")


def test_it_looks_on_while_a_job_runs(points_job):
    """What the job writes, prunes and exports meanwhile is never taken for damage."""
    job, ended, bad, num_looks = points_job, threading.Event(), [], 0
    job.run.mkdir()

    def look() -> None:
        nonlocal num_looks
        while not ended.is_set():
            bad.extend(one for one in Audit(open_store(str(job.run)), no_check).run() if one.is_bad)
            num_looks += 1

    onlooker = threading.Thread(target=look)
    onlooker.start()
    try:
        for epochs in (15, 30):
            job.trained("--epochs", epochs, "--keep_best", "0")
    finally:
        ended.set()
        onlooker.join()
    assert num_looks > 3 and bad == []


def test_a_bucket_is_checked_as_a_folder_is(job, s3_server, monkeypatch):
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    url = f"{s3_server.make_bucket_once('verify')}/run"
    assert job.submit("--epochs", "2", run=url).code == 0
    verified = ["verify", "--train_url", url, "--deep", "--retrain", "--data_url", str(job.data)]
    assert main(verified) == 0
    assert "2 steps taken again on cpu: bit for bit the same" in job.capfd.readouterr().out
    store = open_store(url, writable=True)
    store.put("ckpt_2-a1.pth", store.read("ckpt_2-a1.pth")[:-1] + b"x")
    assert main(verified[:3]) == 65
    assert "ckpt_2-a1.pth: digest of chunk 1 differs" in job.capfd.readouterr().err


def test_what_a_round_takes_in_before_its_steps_is_taken_in_again(job, tmp_path):
    """Sums over all messages stand beside an encoder: from the beginning, and over the border to the next round."""
    pytest.importorskip("tokenizers", reason="the extra 'encoder' is not installed")
    for path in job.data.iterdir():
        path.unlink()
    encoder = write_encoder(tmp_path / "encoder")
    job.arguments = ("--task", "nlu", "--set", f"encoder={encoder}", "--epochs", "1", "--finetune_epochs", "1")
    data, base = ("--data_url", job.data, "--retrain"), ("the beginning", "ckpt_1-a1")
    for number, rows in enumerate((("send money,pay", "hello,greet", "hello friend,greet"), ("my card,card",)), 1):
        (job.data / f"{number}.csv").write_text("\n".join(("text,category", *rows)) + "\n")
        job.trained()
        words = rf"retrain +ckpt_{number}-a{number} from {base[number - 1]}: .*: bit for bit the same"
        assert re.search(words, verify(job, *data)[1])
    sums = _sums(job)
    assert sums[-1, -1] == 4, "each message is taken in once, replayed or not"
    assert "done        epoch 3" in job.trained("--finetune_epochs", "2").out, "the round goes on"
    assert torch.equal(_sums(job), sums), "and takes nothing in again"


def _sums(job: Inside) -> torch.Tensor:
    return safetensors.torch.load_file(next((job.run / "model").glob("*.safetensors")))["ridge.products"]
