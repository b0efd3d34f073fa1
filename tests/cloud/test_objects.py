"""Buckets: what goes over the wire, what is left behind, and what the errors say."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud.errors import AccessDenied, CloudError, NoSuchBucket, Unreachable, UrlError
from cloud.objects import PART_BYTES
from cloud.open import StoreOptions, open_store
from cloud.store import Store
from tests.relay import NO_FAULT, Relay, Request, relaying
from tests.servers import ACCESS_KEY, READER_KEY, SECRET_KEY, AzureServer, S3Server

PARTS = bytes(2 * PART_BYTES + 1)


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    s3_server.make_bucket_once("objects")
    return s3_server


def opened(server: S3Server, url: str = "s3://objects/test", **options: float) -> Store:
    return open_store(url, StoreOptions(endpoint_url=server.endpoint_url, **options), writable=True)  # type: ignore[arg-type]


def relayed(relay: Relay, **options: float) -> Store:
    return open_store("s3://objects/relayed", StoreOptions(endpoint_url=relay.url, **options))  # type: ignore[arg-type]


def stream(store: Store, data: bytes) -> None:
    with store.writer("stream") as writer:
        writer.write(data)


OPERATIONS: dict[str, Callable[[Store], object]] = {
    "list": lambda store: list(store.list()),
    "read": lambda store: store.read("k"),
    "range": lambda store: store.read("k", 1, 2),
    "stat": lambda store: store.stat("k"),
    "put": lambda store: store.put("k", b""),
    "create": lambda store: store.create("k2", b""),
    "stream": lambda store: stream(store, b"small"),
    "parts": lambda store: stream(store, PARTS),
    "delete": lambda store: store.delete("k"),
}


def said(error: type[CloudError], operation: str, store: Store) -> str:
    """What the error says, in one line and without the secret."""
    with pytest.raises(error) as caught:
        OPERATIONS[operation](store)
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET_KEY not in text
    return text


@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - {"stat"}))
def test_a_missing_bucket_is_named(s3: S3Server, operation: str) -> None:
    text = said(NoSuchBucket, operation, opened(s3, "s3://missing/run"))
    assert text == f"s3://missing/run: no such bucket at {s3.endpoint_url}; create it or mend the URL"


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("key", "secret"), [("AKIAUNKNOWN9999", SECRET_KEY), (ACCESS_KEY, "wrong")])
def test_wrong_keys_are_named_by_their_last_letters(
    s3: S3Server, operation: str, key: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    text = said(AccessDenied, operation, opened(s3))
    assert re.match(r"access denied to s3://objects/test(/\w+)?: http://127\.0\.0\.1:\d+ answered 403", text)
    assert text.endswith(f"to the access key ...{key[-4:]} (from AWS_ACCESS_KEY_ID)")
    assert key not in text


def test_a_key_that_is_known_is_not_looked_for(s3: S3Server) -> None:
    opened(s3).put("k", b"content")
    script = (
        "import sys; from cloud.open import StoreOptions, open_store; "
        f"store = open_store('s3://objects/test', StoreOptions(access_key={ACCESS_KEY!r})); "
        "print(store.read('k'), 'botocore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "b'content' False\n"


def test_a_reader_may_read_and_not_write(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(s3, "s3://objects/shared").put("k", b"content")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    store = opened(s3, "s3://objects/shared")
    assert (store.read("k"), [entry.key for entry in store.list()]) == (b"content", ["k"])
    for operation in ("put", "create", "stream", "parts", "delete"):
        assert "AccessDenied to the access key ...5678" in said(AccessDenied, operation, store)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_closed_port_is_not_reachable(s3: S3Server, operation: str) -> None:
    store = open_store("s3://objects/test", StoreOptions(endpoint_url="http://127.0.0.1:1", retry_seconds=0.5))
    assert "endpoint not reachable: http://127.0.0.1:1" in said(Unreachable, operation, store)


def test_a_server_that_never_answers_is_given_up_within_20_seconds(s3: S3Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = open_store(
            "s3://objects/test", StoreOptions(endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        )
        began = time.monotonic()
        assert "no answer in time" in said(Unreachable, "range", store)
        assert time.monotonic() - began < 20


def test_a_profile_that_cannot_be_used_is_named(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text("[profile broken]\ncredential_process = /bin/false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "broken")
    with pytest.raises(AccessDenied, match=r"s3://objects/test: no AWS credentials: .*custom-process"):
        opened(s3)


def test_a_profile_serves_key_and_region(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = f"[profile good]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\nregion=eu-test-1\n"
    (tmp_path / "config").write_text(config)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "good")
    with relaying(Relay(s3.endpoint_url)) as relay:
        relayed(relay).put("k", b"")
    assert f"Credential={ACCESS_KEY}/" in relay.requests[0].headers["authorization"]
    assert "/eu-test-1/s3/" in relay.requests[0].headers["authorization"]


def test_no_credentials_at_all_is_said_soon(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    began = time.monotonic()
    text = said(AccessDenied, "read", opened(s3))
    assert "no credentials could be had; set AWS_ACCESS_KEY_ID" in text
    assert time.monotonic() - began < 10


def first_part_fails(status: int) -> Callable[[Request], int]:
    """Answers the first part of an upload with `status`."""
    seen: list[Request] = []

    def fault(request: Request) -> int:
        if "partNumber=" in request.path:
            seen.append(request)
        return status if len(seen) == 1 and request is seen[0] else NO_FAULT

    return fault


def test_one_503_does_not_lose_an_upload(s3: S3Server) -> None:
    with relaying(Relay(s3.endpoint_url, first_part_fails(503))) as relay:
        stream(relayed(relay), PARTS)
    assert opened(s3, "s3://objects/relayed").read("stream") == PARTS


def test_an_upload_that_fails_is_aborted(s3: S3Server) -> None:
    second_part_fails = Relay(s3.endpoint_url, lambda request: 403 * ("partNumber=2" in request.path))
    with relaying(second_part_fails) as relay, pytest.raises(AccessDenied):
        stream(relayed(relay), PARTS)
    # Another part may still be on its way when the abort is sent.
    assert "DELETE" in [request.method for request in relay.requests if "uploadId" in request.path]
    assert uploads(s3, "relayed/") == []


def uploads(server: S3Server, prefix: str) -> list[str]:
    """Keys of the multipart uploads that were begun and neither completed nor aborted."""
    found = server.client.list_multipart_uploads(Bucket="objects").get("Uploads", [])
    return [upload["Key"] for upload in found if upload["Key"].startswith(prefix)]


def test_an_abandoned_stream_is_aborted(s3: S3Server) -> None:
    with pytest.raises(KeyboardInterrupt), opened(s3, "s3://objects/abandoned").writer("stream") as writer:
        writer.write(PARTS)
        raise KeyboardInterrupt
    assert uploads(s3, "abandoned/") == []


KILLED_WRITER = f"""
import sys, time
from cloud.open import StoreOptions, open_store
store = open_store("s3://objects/killed", StoreOptions(endpoint_url=sys.argv[1]), writable=True)
with store.writer("stream") as writer:
    writer.write(bytes({2 * PART_BYTES + 1}))
    print("written", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_nothing_visible(s3: S3Server) -> None:
    command = [sys.executable, "-c", KILLED_WRITER, s3.endpoint_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    store = opened(s3, "s3://objects/killed")
    assert list(store.list()) == []
    stream(store, b"again")
    assert store.read("stream") == b"again"


def test_throttling_is_retried(s3: S3Server) -> None:
    opened(s3, "s3://objects/relayed").put("k", b"content")
    answers = iter([429, 500, 503])
    with relaying(Relay(s3.endpoint_url, lambda request: next(answers, NO_FAULT))) as relay:
        assert relayed(relay).read("k") == b"content"


@pytest.mark.parametrize("code", ["", "ConditionalRequestConflict", "OperationAborted"])
@pytest.mark.parametrize("operation", ["put", "create"])
def test_another_write_in_flight_does_not_mean_that_the_key_is_taken(s3: S3Server, operation: str, code: str) -> None:
    """A 409 may mean that nothing is there yet: only one to a create that names no such reason says "taken"."""
    opened(s3, "s3://objects/relayed").delete("k2")
    with relaying(Relay(s3.endpoint_url, lambda request: 409, fault_body=error_body(code))) as relay:
        store = relayed(relay, retry_seconds=0.1)
        if operation == "create" and not code:
            with pytest.raises(FileExistsError):
                OPERATIONS[operation](store)
        else:
            assert f"answered 409 {code}".rstrip() in said(Unreachable, operation, store)


def error_body(code: str) -> bytes:
    return f"<Error><Code>{code}</Code></Error>".encode() if code else b""


def test_a_wrong_region_is_named(s3: S3Server) -> None:
    with relaying(Relay(s3.endpoint_url, lambda request: 301)) as relay:
        assert "the bucket is in another region; set --region" in said(UrlError, "read", relayed(relay))


def test_what_obs_is_sent(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with relaying(Relay(s3.endpoint_url)) as relay:
        for name, value in (("http_proxy", relay.url), ("HTTP_PROXY", relay.url), ("no_proxy", ""), ("NO_PROXY", "")):
            monkeypatch.setenv(name, value)
        store = open_store("obs://objects/obs", StoreOptions(endpoint_url="http://localhost"), writable=True)
        assert not store.can_create
        store.create("a", b"1")
        store.create("a", b"2")
        store.delete("a")
        list(store.list())
    assert {request.host for request in relay.requests} == {"objects.localhost"}
    sent = [(request.method, request.path.partition("?")[0]) for request in relay.requests]
    assert sent == [("PUT", "/obs/a"), ("PUT", "/obs/a"), ("DELETE", "/obs/a"), ("GET", "/")]
    unwanted = {"if-none-match", "content-encoding", "x-amz-trailer", "transfer-encoding"}
    assert not any(unwanted & request.headers.keys() for request in relay.requests)


def test_obs_wants_to_know_where_it_is() -> None:
    with pytest.raises(UrlError, match=r"obs://bucket/run: where is it\? Set --region, as in cn-north-4"):
        open_store("obs://bucket/run")


def test_s3_deletes_singly(s3: S3Server) -> None:
    with relaying(Relay(s3.endpoint_url)) as relay:
        relayed(relay).delete("k")
    assert [(request.method, request.path) for request in relay.requests] == [("DELETE", "/objects/relayed/k")]


def test_azure_says_what_is_wrong(azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in azure_server.env.items():
        monkeypatch.setenv(name, value)
    options = StoreOptions(endpoint_url=azure_server.endpoint_url)
    assert "az://missing/run: no such bucket at http" in said(
        NoSuchBucket, "put", open_store("az://missing/run", options)
    )
    assert "az://missing/run: no such" in said(NoSuchBucket, "list", open_store("az://missing/run", options))
    azure_server.make_container_once("objects")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    assert "access denied to az://objects/k" in said(AccessDenied, "put", open_store("az://objects", options))
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(UrlError, match="az://objects: Account must be specified; set AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://objects", options)
