"""A relay between a store and its server, which notes every request and fails those that a test picks."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

NO_FAULT = 0
RESET = -1
"""In the place of a status: hang up without an answer."""


@dataclass(frozen=True)
class Request:
    """What a store sent: `path` with its query, `host` as in the Host header."""

    method: str
    path: str
    host: str
    headers: dict[str, str]


@dataclass
class Relay:
    """Forwards to `server_url`, as a server in its place or as an HTTP proxy, and keeps the Host header.

    `fault` gives the HTTP status to answer a request with instead, or NO_FAULT; `fault_body` goes with it.
    """

    server_url: str
    fault: Callable[[Request], int] = lambda request: NO_FAULT
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    fault_body: bytes = b""


@contextmanager
def relaying(relay: Relay) -> Iterator[Relay]:
    """The relay at work; `relay.url` is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = urlsplit(self.path)
            path = target.path + (f"?{target.query}" if target.query else "")
            request = Request(self.command, path, self.headers["Host"], {k.lower(): v for k, v in self.headers.items()})
            relay.requests.append(request)
            status = relay.fault(request)
            if status == RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return
            self.answer(status, {}, relay.fault_body) if status else self.forward(path, body)

        def forward(self, path: str, body: bytes) -> None:
            connection = http.client.HTTPConnection(urlsplit(relay.server_url).netloc, timeout=30)
            connection.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            self.answer(response.status, dict(response.getheaders()), response.read())
            connection.close()

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the relay notes requests itself."""

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - the base class's names

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Nothing: stores that are stopped hang up."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    relay.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield relay
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
