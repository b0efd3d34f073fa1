"""What somebody who can write to a bucket may put there: said in one line each, and nothing of it takes effect."""

import gzip
import hashlib
import random
import resource
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zstandard

from cloud.open import open_store
from cloud.records import FileDigest, Record
from cloud.sealed import seal, unseal
from tests.e2e.inside import Inside, write_digits
from tests.servers import S3Server

MEGABYTE = 2**20


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def forge(job: Inside, content: Callable[[Path], None]) -> None:
    """Replace the newest checkpoint, and write a record whose digests are right."""
    record_path = max(job.run.glob("ckpt_*.json"))
    record = unseal(record_path.read_bytes(), Record)
    path = job.run / record.object.key
    path.unlink()
    content(path)
    data = path.read_bytes()
    digest = FileDigest(key=record.object.key, size=len(data), chunks=(hashlib.sha256(data).hexdigest(),))
    record_path.write_bytes(seal(record.model_copy(update={"object": digest})))


def test_a_checkpoint_with_a_right_record_and_code_in_it_is_refused_and_never_run(job, tmp_path):
    job.trained()
    canary = tmp_path / "canary"
    forge(job, lambda path: torch.save({"net": {}, "optimizer": {}, "epoch": 1, "x": Canary(canary)}, path))
    text = job.refused(65, "--epochs", "2")
    assert "ckpt_1-a1" in text and "which might run code" in text
    assert not canary.exists()


def packed(path: Path) -> None:
    """A checkpoint of 64 MB in a few kilobytes."""
    torch.save({"net": {"w": torch.zeros(16 * MEGABYTE)}, "optimizer": {}, "epoch": 1}, path)
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    assert path.stat().st_size < MEGABYTE


def test_a_checkpoint_that_would_unpack_to_anything_is_refused(job):
    job.trained()
    forge(job, packed)
    assert "its content is compressed, which torch.save never does" in job.refused(65, "--epochs", "2")


BOMBS = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("suffix", BOMBS)
@pytest.mark.parametrize("task", ["images", "nlu"])
def test_a_bomb_ends_at_max_shard_bytes(job, suffix, task):
    name = {"images": "bomb.tar", "nlu": "bomb.jsonl"}[task] + suffix
    (job.data / name).write_bytes(BOMBS[suffix](bytes(200 * MEGABYTE)))
    job.arguments = job.arguments if task == "images" else ("--task", "nlu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = job.refused(65, "--max_shard_bytes", "20MB")
    assert text.startswith(f"{name}: cannot be read: its content is larger than --max_shard_bytes 20,000,000 allow")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024


def test_an_archive_cannot_lead_out_of_itself(job, tmp_path):
    images = tmp_path / "images.tar"
    write_digits(images, 40, 60)
    with tarfile.open(images) as source, tarfile.open(job.data / "evil.tar", "w") as target:
        for number, member in enumerate(source.getmembers()):
            content = source.extractfile(member)
            stem, _, suffix = member.name.partition(".")
            member.name = f"{('../../', '/etc/', '/')[number // 2 % 3]}{stem}.{suffix}"
            target.addfile(member, content)
        for kind, name in ((tarfile.SYMTYPE, "evil.png"), (tarfile.CHRTYPE, "dev.png"), (tarfile.LNKTYPE, "x.cls")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../../etc/passwd"
            target.addfile(info)
    before = set(tmp_path.rglob("*"))
    said = job.trained("--cache_dir", tmp_path / "cache")
    assert said.outcome["num_examples_trained"] == 60
    new = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert new <= {"run", "cache", "scratch"}


LONG = "/".join(["数" * 80] * 4 + ["é" * 24 + ".tar"])


def test_a_key_as_long_as_any_store_allows(job, s3_server: S3Server, monkeypatch):
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    key = f"data/{LONG}"
    assert 1020 <= len(key.encode()) <= 1024
    url = s3_server.make_bucket_once("hostile")
    open_store(url).put(key, (job.data / "0.tar").read_bytes())
    said = job.submit(data=f"{url}/data")
    assert said.code == 0, said.err
    assert said.outcome["num_examples_trained"] == 20


def test_names_that_break_lines_are_said_in_one(job):
    (job.data / "a\nb\x1b[2J.tar").write_bytes((job.data / "0.tar").read_bytes())
    said = job.trained()
    (line,) = said.err.splitlines()
    assert r"'a\nb\x1b[2J.tar'" in line and "is no name for a shard; rename it" in line
    assert said.outcome["num_examples_trained"] == 40


RANDOM = random.Random(0).randbytes(100_000)
NESTED = b"[" * 100_000
FILES: dict[str, bytes] = {
    "noise": RANDOM,
    "nested": NESTED,
    "nested and sealed": NESTED + b', "digest": "sha256:%b"}\n' % hashlib.sha256(NESTED).hexdigest().encode(),
    "empty": b"",
    "too large": b"{" + b" " * 17 * MEGABYTE + b"}",
    "another schema": seal({"attempt": "../../../etc", "nonce": None, "extra": {"a": 1}}),
    "NaN": b'{"attempt": NaN}',
    "latin-1": '{"host": "café"}'.encode("latin-1"),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
@pytest.mark.parametrize("key", ["ckpt_9-a1.json", "attempts/000001.life", "ledger/round-0009-a1.jsonl.zst"])
def test_files_of_ours_with_anything_in_them(job, key, content):
    job.trained()
    (job.run / key).write_bytes(content)
    said = job.submit("--epochs", "2")
    assert said.code in (0, 65), said.err
    assert all(len(line) < 1000 for line in said.err.splitlines())
    assert "Traceback" not in said.err
    if said.code == 0:
        assert said.outcome["epoch"] == 2
