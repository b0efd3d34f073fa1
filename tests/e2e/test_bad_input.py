"""A hostile or an unlucky user: one clear line each (what, where, what to do), the right exit code, nothing lost."""

import json
import os
import random
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cloud.open import open_store
from tests.e2e.inside import IMAGES, POINTS, Inside, write_digits, write_points
from tests.servers import READER_KEY, S3Server, free_ports
from tests.shards import digits, write_tar
from tests.trainer.tars import encode
from tests.trainer.tars import write_tar as write_members

LIMIT_SECONDS = 60
GIVE_UP_SECONDS = 20


Ended = Future[subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """Real processes that wait for places which never answer, while the other tests run."""
    folder = tmp_path_factory.mktemp("nowhere")
    write_digits(folder / "data" / "0.tar", 0, 20)
    closed, bucket = f"http://127.0.0.1:{free_ports(1)[0]}", "s3://bucket/x"
    with ThreadPoolExecutor() as pool:
        yield {
            "run": pool.submit(submit_process, folder, closed, "data", bucket),
            "data": pool.submit(submit_process, folder, closed, bucket, "data-run"),
            "name": pool.submit(submit_process, folder, "http://no.such.invalid", bucket, "name-run"),
        }


def submit_process(folder: Path, endpoint_url: str, data: str, run: str) -> subprocess.CompletedProcess[str]:
    """A submission as a process of its own; where it got as far as the listing, that must have been given up soon."""
    keys = {"AWS_ACCESS_KEY_ID": "AKIANOBODY", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", **keys}
    urls = ("--data_url", data, "--train_url", run, "--endpoint_url", endpoint_url)
    command = [sys.executable, "-m", "entrypoint", *IMAGES, *urls]
    ended = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    for path in (folder / run).glob("attempts/*.json"):
        assert json.loads(path.read_text())["seconds"]["catalog"] < GIVE_UP_SECONDS
    return ended


# Settings, judged before anything is opened.

SETTINGS = [
    (("--epochs", "-1"), "--epochs -1: must be at least 1"),
    (("--epocs", "3"), "--epocs: no such setting; did you mean --epochs?"),
    (("--keep_lats", "3"), "--keep_lats: no such setting; did you mean --keep_last?"),
    (("--frobnicate", "3"), "--frobnicate: no such setting; --help lists all"),
    (("--learning_rate", "fast"), "--learning_rate fast: must be a number"),
    (("--endpoint_url", "nonsense"), "--endpoint_url nonsense: must be an address such as https://host:9000"),
    (("--config", "/no/such.yaml"), "--config /no/such.yaml: No such file or directory"),
]


@pytest.mark.parametrize(("more", "words"), SETTINGS)
def test_wrong_settings_leave_no_trace(job, more, words):
    assert job.refused(78, *more).startswith(words)
    assert not job.run.exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3:/bucket/run", "no URL: write SCHEME://..."),
        ("~/run", "write the whole path"),
        ("s3://", "names no bucket; write s3://BUCKET/FOLDER/"),
        ("obs://bucket/run", "Set --region, as in cn-north-4, or --endpoint_url"),
        ("hdfs://host/run", "can only be read; write to a folder, s3, obs, gs or az"),
        ("file://run", "a local URL has three slashes, as in file:///folder"),
    ],
)
def test_a_slip_in_train_url_is_no_folder_of_that_name(job, tmp_path, monkeypatch, url, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    text = job.refused(78, run=url)
    assert text.startswith(url)
    assert words in text
    assert sorted(tmp_path.iterdir()) == before


def test_folders_that_contain_each_other(job, tmp_path):
    write_digits(job.data / "holdout" / "0.tar", 40, 50)
    assert "one contains the other" in job.refused(78, run=job.data / "run")
    assert "one contains the other" in job.refused(78, run=tmp_path)
    assert "one contains the other" in job.refused(78, run=f"file://{job.data}/")
    assert "one contains the other" in job.refused(78, "--eval_url", job.data / "holdout")
    assert not (job.data / "run").exists()


TASKS = [
    (("--task", "image"), "--task image: unknown, did you mean images?"),
    (("--task", "./none.py:Task"), "--task ./none.py:Task: ./none.py cannot be loaded: no such file"),
    (
        ("--task", POINTS[1].replace(":Points", ":Point")),
        "no subclass of Task is called Point there; there are: Points, Plain",
    ),
    (("--set", "imagesize=8"), "--set imagesize=8: unknown, did you mean image_size?"),
    (("--set", "image_size=large"), "--set image_size=large: must be a valid integer"),
    (("--device", "mps"), "--device mps: "),
]


@pytest.mark.parametrize(("more", "words"), TASKS)
def test_an_unknown_task_or_setting_of_one(job, more, words):
    if torch.backends.mps.is_available() and "mps" in more:
        pytest.skip("this machine has what the test asks for in vain")
    assert words in job.refused(78, *more)
    job.trained()


# Places.


def test_a_missing_data_folder(job, tmp_path):
    missing = f"{tmp_path}/dta: no such folder"
    assert job.refused(78, data=tmp_path / "dta") == f"{missing}; create it or mend the path"
    job.trained()
    assert "or mend the path" in job.refused(74, data=tmp_path / "dta"), "it may also be that it is not mounted"
    assert "is no folder, but a file" in job.refused(78, data=job.data / "0.tar")
    assert job.trained().outcome["outcome"] == "nothing_new"


def test_a_train_url_that_is_a_file(job):
    job.run.write_text("mine")
    assert "there is a file of that name, no folder" in job.refused(78)
    assert job.run.read_text() == "mine"


def test_an_empty_prefix_is_no_success_even_when_all_was_trained(job, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    words = f"{empty}: no shards there; task images reads *.tar, plain or compressed; mend --data_url"
    assert job.refused(65, data=empty) == words
    job.trained()
    assert job.refused(65, data=empty) == words
    assert job.refused(65, data="memory://nothing/here").startswith("memory://nothing/here: no shards there")


def test_an_empty_eval_url(job, tmp_path):
    (tmp_path / "evaluation").mkdir()
    text = job.refused(65, "--eval_url", tmp_path / "evaluation")
    assert text == f"--eval_url {tmp_path}/evaluation: no shards there; mend the URL, or leave it out"


def test_links_to_shards_are_said(job, tmp_path):
    (tmp_path / "linked").mkdir()
    for path in job.data.iterdir():
        (tmp_path / "linked" / path.name).symlink_to(path)
    said = job.submit(data=tmp_path / "linked")
    assert said.code == 65
    warning, error = said.err.splitlines()
    assert re.match("perdure: warning: passed over 2 symbolic links in .*; put the files themselves there", warning)
    assert "no shards there" in error


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server


def test_a_missing_bucket(job, s3):
    for place in ({"data": "s3://no-such-bucket/x"}, {"run": "s3://no-such-bucket/x"}):
        text = job.refused(78, **place)
        assert text.startswith("s3://no-such-bucket/x: no such bucket at http://127.0.0.1:")
        assert "create it or mend the URL" in text


def test_wrong_keys(job, s3, monkeypatch):
    bucket = s3.make_bucket_once("bad-input")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    text = job.refused(74, run=f"{bucket}/run")
    assert re.match(rf"access denied to {bucket}/run/\S+: http://\S+ answered 403 AccessDenied to the access key", text)
    assert "...5678 (from AWS_ACCESS_KEY_ID)" in text
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    text = job.refused(74, data=f"{bucket}/data")
    assert text.startswith(f"access denied to {bucket}/data: http://")
    assert "another" not in text


# Shards.


def random_bytes(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(5000))


def half_a_tar(path: Path) -> None:
    content = write_digits(path, 40, 60).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def no_members(path: Path) -> None:
    tarfile.open(path, "w").close()


def no_labels(path: Path) -> None:
    write_members(path, [(f"{number:04}.png", encode(image)) for number, image in enumerate(digits()[0][:3])])


def bad_image(path: Path) -> None:
    good = encode(digits()[0][0])
    images = {"1": good, "2": b"no image", "3": good[:60]}
    members = [((f"{key}.png", image), (f"{key}.cls", b"0")) for key, image in images.items()]
    write_members(path, [member for pair in members for member in pair])


def huge(path: Path) -> None:
    write_digits(path, 0, 100)


SHARDS: list[tuple[Callable[[Path], None], str]] = [
    (random_bytes, "bad.tar: cannot be read: it is no whole tar: .*; replace or remove it"),
    (half_a_tar, "bad.tar: cannot be read: it is no whole tar: cut short at byte .*; replace or remove it"),
    (no_bytes, "bad.tar: cannot be read: it is no whole tar: empty file; replace or remove it"),
    (no_members, "bad.tar: holds no examples; remove it"),
    (no_labels, "bad.tar: '0000.png': no label beside it; expected '0000.cls or .json'; mend it, or .* skip"),
    (bad_image, "bad.tar: '2.png': is no PNG, JPEG or WebP image; mend it, or pass over .* --on_bad_example skip"),
    (huge, "bad.tar: [0-9,]+ bytes, more than --max_shard_bytes 100,000; split it"),
]


@pytest.mark.parametrize(("spoil", "words"), SHARDS)
def test_a_bad_shard_is_named_and_what_was_trained_goes_on(job, spoil, words):
    job.trained()
    spoil(job.data / "bad.tar")
    assert re.fullmatch(words, job.refused(65, "--max_shard_bytes", "100000"))
    write_digits(job.data / "bad.tar", 40, 60)
    said = job.trained()
    assert (said.outcome["resumed_from"], said.outcome["appended_shards"]) == ("ckpt_1-a1", ["bad.tar"])


@pytest.mark.parametrize(("spoil", "words"), SHARDS[:5])
def test_a_bad_shard_in_the_first_submission(job, spoil, words):
    spoil(job.data / "bad.tar")
    assert re.fullmatch(words, job.refused(65))
    (job.data / "bad.tar").unlink()
    assert job.trained().outcome["num_examples_trained"] == 40


def test_bad_examples_are_passed_over_when_asked_up_to_a_number(job):
    bad_image(job.data / "bad.tar")
    text = job.refused(65, "--on_bad_example", "skip", "--max_bad_examples", "1")
    assert text.startswith("2 bad examples, more than --max_bad_examples 1; the first: bad.tar: '2.png': is no PNG")
    said = job.trained("--on_bad_example", "skip", "--max_bad_examples", "2")
    first, second = said.err.splitlines()
    assert first == "perdure: warning: passed over bad.tar: '2.png': is no PNG, JPEG or WebP image"
    assert second.startswith("perdure: warning: passed over bad.tar: '3.png': cannot be decoded")
    assert said.outcome["new_examples"] == 41


def test_what_a_task_chokes_on_is_a_bad_example(points_job):
    with (points_job.data / "b.jsonl").open("a") as file:
        file.write('{"id": "x", "x": [1.0, 2.0]}\n')
    text = points_job.refused(65)
    assert text.startswith("b.jsonl: example 20: KeyError: 'y'; mend it, or pass over such examples")
    (points_job.data / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    assert points_job.refused(65).startswith("b.jsonl: cannot be read: 'utf-8' codec can't decode byte 0xff")


def test_examples_that_make_no_batch_are_named_with_their_shards(points_job):
    write_points(points_job.data / "c.jsonl", 40, 42)
    (points_job.data / "d.jsonl").write_text('{"id": "x", "x": [1.0], "y": "a"}\n')
    said = points_job.submit("--batch_size", "100")
    assert said.code == said.outcome["exit_code"] == 70
    words = r"unforeseen ValueError: expected sequence of length \d .* \(in a batch of examples of a.jsonl, b.jsonl, "
    assert re.match(words + r"c.jsonl, d.jsonl\); submit again, and report the traceback", said.outcome["error"])
    assert "Traceback" in said.err


def test_a_label_that_only_the_evaluation_has(job):
    job.trained()
    images, labels = digits()
    write_tar(job.data / "eval" / "e.tar", images[40:42], ["unseen", *labels[41:42]])
    assert job.trained().outcome["outcome"] == "nothing_new", "evaluation shards alone begin no round"
    write_digits(job.data / "2.tar", 60, 80)
    words = "eval/e.tar: label 'unseen' is in no training shard; add examples of it, or take it out"
    assert job.refused(65) == words
    write_tar(job.data / "3.tar", images[40:44], ["unseen"] * 4)
    assert job.trained().outcome["appended_shards"] == ["2.tar", "3.tar", "eval/e.tar"]


def test_a_best_metric_that_is_no_score_is_said_once(job):
    write_digits(job.data / "eval" / "e.tar", 40, 50)
    said = job.trained("--best_metric", "acuracy", "--epochs", "2")
    words = "--best_metric acuracy: no such score, so that no epoch is the best; there are: loss, accuracy, macro_f1"
    assert said.err == f"perdure: warning: {words}\n"


def test_an_index_that_is_none(job):
    (job.data / "_index.jsonl").write_text("nonsense\n")
    text = job.refused(65)
    assert text.startswith(f"_index.jsonl in {job.data}, line 1: ")
    assert text.endswith("write it anew or delete it")


# Shards that changed after they were trained, or are gone.


def test_a_changed_shard_fails_or_is_ignored(job):
    job.trained()
    write_digits(job.data / "1.tar", 100, 120)
    words = (
        "1.tar: its content changed after it was trained; restore it and put what is new in another shard, "
        "or do without it: --on_changed_shard ignore"
    )
    assert job.refused(65) == words
    assert job.refused(65, "--on_changed_shard", "fail") == words
    assert "its examples have no keys to compare" in job.refused(65, "--on_changed_shard", "diff")
    said = job.trained("--on_changed_shard", "ignore")
    assert (said.outcome["outcome"], said.outcome["changed_shards"]) == ("nothing_new", ["1.tar"])
    assert "1 shard as before, none new" in said.out, "an ignored shard waits for nothing"
    write_digits(job.data / "1.tar", 20, 40)
    assert job.trained().outcome["changed_shards"] == []


def test_a_changed_shard_with_keys_brings_what_is_new(points_job):
    points_job.trained()
    write_points(points_job.data / "b.jsonl", 25, 48)
    said = points_job.trained()
    assert (said.outcome["changed_shards"], said.outcome["new_examples"], said.outcome["round"]) == (["b.jsonl"], 8, 2)
    assert "8 new examples, 5 vanished" in said.out
    assert points_job.trained().outcome["outcome"] == "nothing_new"


def test_a_changed_shard_of_an_unfinished_round(job):
    job.trained()
    write_digits(job.data / "1.tar", 100, 120)
    text = job.refused(65, "--epochs", "2", "--on_changed_shard", "ignore")
    assert text == "1.tar: changed, and round 1, which needs it, is unfinished; restore it"
    write_digits(job.data / "1.tar", 20, 40)
    assert job.trained("--epochs", "2").outcome["epoch"] == 2


def test_a_removed_shard_is_named_or_fails(job):
    job.trained()
    content = (job.data / "1.tar").read_bytes()
    (job.data / "1.tar").unlink()
    said = job.trained()
    assert (said.outcome["outcome"], said.outcome["removed_shards"]) == ("nothing_new", ["1.tar"])
    assert "1.tar" in said.out
    assert job.refused(65, "--on_removed_shard", "fail").startswith("1.tar: trained before, and gone; restore it, or")
    text = job.refused(65, "--epochs", "2")
    assert text == "1.tar: gone, and round 1, which needs it, is unfinished; restore it"
    (job.data / "1.tar").write_bytes(content)
    assert job.trained("--epochs", "2").outcome["epoch"] == 2


# The output folder of another job.


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--seed", "5"), "--seed: found 0 in {run}, expected 5; it is fixed for a folder"),
        (("--set", "width=8"), "--set width: found 4 in {run}, expected 8; it is fixed for a folder"),
        (("--eval_fraction", "0.5"), "--eval_fraction: found 0.0 in {run}, expected 0.5; it is fixed for a folder"),
        (("--task", POINTS[1]), "--task ./points.py:Points: "),
    ],
)
def test_a_folder_written_with_other_settings(job, more, words):
    job.trained()
    if more[0] == "--task":
        arguments, job.arguments = job.arguments, ("--epochs", "1")
        text = job.refused(78, *more)
        assert text == f"--task: found images in {job.run}, expected {more[1]}; use another --train_url"
        job.arguments = arguments
    else:
        assert job.refused(78, *more).startswith(words.format(run=job.run))
    assert job.trained().outcome["outcome"] == "nothing_new"


# Disks.

REFUSED = "(read-only file system|permission denied)"


def run(*command: object) -> bool:
    return subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode == 0


@contextmanager
def mounted(*command: object) -> Iterator[None]:
    """Something mounted at the last word of a `mount` command; skips where that is not permitted."""
    if not run("mount", *command):
        pytest.skip("mount is not permitted here")
    try:
        yield
    finally:
        run("umount", command[-1])


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that refuses writes: by its mode, or, since root may write all the same, by a mount."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    with mounted("--bind", folder, folder):
        if not run("mount", "-o", "remount,bind,ro", folder):
            pytest.skip("a read-only mount is not permitted here")
        yield


def test_a_read_only_output_folder(job, tmp_path):
    job.trained()
    with read_only(job.run):
        text = job.refused(74, "--epochs", "2")
        assert re.fullmatch(rf"{job.run}(/\S+)?: {REFUSED}; let this user write there, or name another folder", text)
    (tmp_path / "empty").mkdir()
    with read_only(tmp_path / "empty"):
        text = job.refused(74, run=tmp_path / "empty" / "new")
        assert re.fullmatch(rf"{tmp_path}/empty/new: {REFUSED}; let this user write there, or .*", text)
    assert job.trained("--epochs", "2").outcome["resumed_from"] == "ckpt_1-a1"


def test_a_full_disk_under_the_output_folder(job):
    job.run.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=80k", "tmpfs", job.run):
        full = job.submit("--epochs", "6", "--max_unpublished_seconds", "0")
        assert full.code == 74, full.err
        words = rf"{job.run}/ckpt_\d\S*\.pth: no space left on device; make room there; the newest state, (\S+)-a1, is"
        found = re.match(words, full.error)
        assert found, full.error
        assert job.checkpoints(), "what was committed before is there"
        assert run("mount", "-o", "remount,size=10m", job.run)
        said = job.trained("--epochs", "6")
        assert said.outcome["resumed_from"] == f"{found[1]}-a2"
        assert said.outcome["epoch"] == 6


def in_memory(job: Inside) -> str:
    """The same shards in a store whose objects must be fetched."""
    store = open_store(f"memory://bad-input/{job.data.parent.name}")
    for path in job.data.iterdir():
        store.put(path.name, path.read_bytes())
    return store.url


def test_a_cache_on_a_full_disk_or_none(job, tmp_path):
    job.trained()
    write_digits(job.data / "2.tar", 40, 60)
    cache, data = tmp_path / "cache", in_memory(job)
    cache.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=32k", "tmpfs", cache):
        text = job.refused(74, "--cache_dir", cache, data=data)
        assert re.match(
            rf"{cache}/0/\d+\.partial: no space left on this machine's disk; make room, or set --cache", text
        )
    with read_only(cache):
        text = job.refused(74, "--cache_dir", cache, data=data)
        assert re.fullmatch(
            rf"{cache}/0: (Read-only file system; repair it.*|no permission .*; let this user .*)", text
        )
    (tmp_path / "file").touch()
    text = job.refused(78, "--cache_dir", tmp_path / "file", data=data)
    assert text == f"--cache_dir {tmp_path}/file: is no folder; name another one"
    text = job.refused(78, "--cache_dir", cache, "--cache_bytes", "10kB", data=data)
    assert re.match(rf"\S+ in {data}: its \d+ bytes do not fit into the cache in .*; raise --cache_bytes", text)
    said = job.submit("--cache_dir", cache, data=data)
    assert (said.code, said.outcome["resumed_from"]) == (0, "ckpt_1-a1"), said.err


# A loss that is no number.


@pytest.mark.parametrize("max_grad_norm", ["0", "1"])
def test_a_loss_that_becomes_nan(job, max_grad_norm):
    job.arguments = (*job.arguments, "--epochs", "3")
    text = job.refused(65, "--learning_rate", "1e30", "--max_grad_norm", max_grad_norm)
    assert re.match(r"step \d: the loss is nan, of examples in 0.tar, 1.tar; nothing of it was saved; ", text)
    assert job.trained().outcome["epoch"] == 3


def test_a_loss_that_becomes_nan_in_a_later_round(job):
    job.trained()
    write_digits(job.data / "2.tar", 40, 70)
    text = job.refused(65, "--learning_rate_factor", "1e38", "--finetune_epochs", "4")
    assert re.match(r"step \d+: the (loss|parameter) .*--learning_rate_factor 0.1", text)
    said = job.trained("--finetune_epochs", "2")
    assert (said.outcome["resumed_from"], said.outcome["epoch"]) == ("ckpt_1-a1", 3)


# Places that never answer: started first, read last.


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("data", r"s3://bucket/x: endpoint not reachable: http://127.0.0.1:\d+: connection refused"),
        ("run", r"s3://bucket/x: endpoint not reachable: http://127.0.0.1:\d+: connection refused"),
        ("name", "s3://bucket/x: endpoint not reachable: http://no.such.invalid: its name is not known"),
    ],
)
def test_an_unreachable_endpoint(nowhere, place, words):
    ended = nowhere[place].result()
    assert ended.returncode == 74
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert re.match("perdure: error: " + words, ended.stderr)
