"""Credentials are in nothing that a run says or writes: real submissions of every kind, and a search through it all."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import zstandard

from cloud.open import open_store
from tests.e2e.inside import Inside, Said, write_digits
from tests.servers import SECRET_KEY, S3Server

PASSWORD = "hunter2-password"
SIGNATURE = "SIGNED-abcdef0123456789"
BYSTANDERS = {
    "AZURE_STORAGE_ACCOUNT_KEY": "azure-account-key-42",
    "GOOGLE_SERVICE_ACCOUNT_KEY": "google-private-key-42",
    "HF_TOKEN": "hf_bystander_token_42",
    "PGPASSWORD": "bystander-password-42",
}
SECRETS = (SECRET_KEY, PASSWORD, SIGNATURE, *BYSTANDERS.values())


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in {**s3_server.env, **BYSTANDERS}.items():
        monkeypatch.setenv(name, value)
    return s3_server


def test_no_secret_is_in_anything_that_a_run_says_or_writes(job: Inside, s3: S3Server, tmp_path: Path, monkeypatch):
    bucket = s3.make_bucket_once("secrets")
    run, data = f"{bucket}/run", f"{bucket}/data"
    with_password = s3.endpoint_url.replace("://", f"://me:{PASSWORD}@")
    monkeypatch.chdir(tmp_path)
    open_store(data).put("0.tar", (job.data / "0.tar").read_bytes())
    cache = ("--cache_dir", tmp_path / "cache")

    said = [job.submit(*cache, "--log_format", "json", data=data, run=run)]
    said += [job.submit(*cache, "--endpoint_url", with_password, "--epochs", "2", data=data, run=run)]
    assert [one.code for one in said] == [0, 0], said
    said += list(refusals(job, data, run, with_password, tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET_KEY}-rotated")
    said += [job.submit("--debug", data=data, run=run)]
    assert said[-1].code == 74

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    written = {f"said {number}": one.out + one.err for number, one in enumerate(said)}
    leaks = [(name, secret) for name, text in written.items() for secret in SECRETS if secret in text]
    for name, content in {**objects(run), **files(tmp_path)}.items():
        leaks += [(name, secret) for secret in SECRETS if secret.encode() in content]
    assert leaks == []


def refusals(job: Inside, data: str, run: str, endpoint: str, folder: Path) -> Iterator[Said]:
    """Submissions that end in an error about a place whose address holds a secret."""
    signed = f"https://me:{PASSWORD}@127.0.0.1:1/data?X-Amz-Signature={SIGNATURE}"
    config = folder / "job.yaml"
    config.write_text(f"data_url: {signed}\n")
    wrong: list[tuple[dict[str, str], tuple[object, ...]]] = [
        ({"data": data, "run": run.replace("://", f"://me:{PASSWORD}@")}, ()),
        ({"data": f"{data}?sig={SIGNATURE}", "run": run}, ()),
        ({"data": f"sftp://me:{PASSWORD}@127.0.0.1/x", "run": run}, ()),
        ({"data": signed, "run": run}, ("--debug",)),
        ({"data": data, "run": f"{run}-2"}, ("--rounds_from", f"s3://me:{PASSWORD}@b/run?sig={SIGNATURE}")),
        ({"data": data, "run": f"{run}-3"}, ("--init_from", signed)),
        ({"data": data, "run": run}, ("--eval_url", signed)),
        ({"data": data, "run": run}, ("--endpoint_url", f"{endpoint}?x={SIGNATURE}")),
        ({"data": signed, "run": run}, ("--endpoint_url", endpoint, "--show_settings")),
        ({"data": data, "run": "s3://no-such-bucket/run"}, ("--endpoint_url", endpoint)),
        ({"data": data, "run": run}, ("--config", config, "--endpoint_url", "x")),
    ]  # fmt: skip
    for places, more in wrong:
        yield (said := job.submit(*more, **places))
        assert "unforeseen" not in said.err, said.err
    (job.data / "bad.tar").write_bytes(b"bad")
    write_digits(job.data / "0.tar", 0, 20)
    yield job.submit()


def objects(url: str) -> Mapping[str, bytes]:
    """Everything below a URL; what is packed, unpacked."""
    store = open_store(url)
    found = {entry.key: store.read(entry.key) for entry in store.list()}
    assert {"model/config.json", "attempts/000001.json", "metrics/000001.jsonl"} <= found.keys()
    return {key: unpacked(key, content) for key, content in found.items()}


def files(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder, but for the one that was given."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "job.yaml"]
    return {str(path): unpacked(path.name, path.read_bytes()) for path in found}


def unpacked(name: str, content: bytes) -> bytes:
    if not name.endswith(".zst"):
        return content
    return zstandard.ZstdDecompressor().decompressobj().decompress(content)
