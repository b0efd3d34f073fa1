"""An S3 endpoint that lists any number of objects and makes up their content, to measure a million shards with.

python -m tests.benchmarks.listing_server NUM_OBJECTS [NUM_INDEXED] prints its port; GET /requests tells how many pages
it served. Each object is a CSV file of one row of 16 numbers; `_index.jsonl` is about the first NUM_INDEXED of them.
"""

import hashlib
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
PREFIX = "data/"
MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
HEAD = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{}&quot;</ETag>"
    "<Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def key(number: int) -> str:
    """The key of object `number`, relative to PREFIX; they sort by number."""
    return f"{number:08d}.csv"


def etag(number: int) -> str:
    """Its ETag."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"


def size(number: int) -> int:
    """Its size in bytes."""
    return len(content(number))


def content(number: int) -> bytes:
    """Its only row."""
    return f"{number:08d}{',1' * 15}\n".encode()


def index_line(number: int) -> str:
    """What an index says of it."""
    fields = f'"size":{size(number)},"sha256":"{hashlib.sha256(content(number)).hexdigest()}"'
    return f'{{"key":"{key(number)}",{fields},"num_read":1,"num_examples":1,"labels":{{"":1}},"bad":[]}}\n'


class Listing(BaseHTTPRequestHandler):
    """ListObjectsV2 of the objects, page by page, after a key or a token; and the objects, whole or in ranges."""

    protocol_version = "HTTP/1.1"
    num_objects = 0
    num_requests = 0
    index = b""

    def do_GET(self) -> None:
        path, asked = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/requests":
            self._send(str(Listing.num_requests))
            return
        if "list-type" not in asked:
            self._send_object(path.rpartition("/")[2])
            return
        Listing.num_requests += 1
        prefix = asked.get("prefix", [""])[0]
        after = asked.get("continuation-token", asked.get("start-after", [""]))[0]
        first = self._first_after(after.removeprefix(PREFIX)) if PREFIX.startswith(prefix) else self.num_objects
        self._send(self._page(first))

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _first_after(self, after: str) -> int:
        """The number of the first object whose key sorts after `after`."""
        low, high = 0, self.num_objects
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if key(middle) <= after else (low, middle)
        return low

    def _page(self, first: int) -> str:
        last = min(first + PAGE, self.num_objects)
        entries = (ENTRY.format(PREFIX + key(number), etag(number), size(number)) for number in range(first, last))
        more = last < self.num_objects
        token = f"<NextContinuationToken>{PREFIX + key(last - 1)}</NextContinuationToken>" if more else ""
        return f"{HEAD}<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(entries)}</ListBucketResult>"

    def _send_object(self, name: str) -> None:
        number = int("".join(re.findall(r"^(\d{8})\.csv$", name)) or -1)
        whole = Listing.index if name == "_index.jsonl" else content(number) if 0 <= number < self.num_objects else b""
        if not whole:
            self._answer(404, {"Content-Length": "0"}, b"")
            return
        first, last = (re.findall(r"(\d+)-(\d+)", self.headers.get("Range", "")) or [(0, len(whole) - 1)])[0]
        part = whole[int(first) : int(last) + 1]
        fields = {"Content-Length": str(len(part)), "ETag": f'"{etag(number)}"', "Last-Modified": MODIFIED}
        if "Range" in self.headers:
            fields["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(whole)}"
        self._answer(206 if "Range" in self.headers else 200, fields, part)

    def _answer(self, status: int, fields: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send(self, text: str) -> None:
        body = text.encode()
        self._answer(200, {"Content-Type": "application/xml", "Content-Length": str(len(body))}, body)


if __name__ == "__main__":
    Listing.num_objects, num_indexed = int(sys.argv[1]), int((*sys.argv[2:], "0")[0])
    Listing.index = "".join(map(index_line, range(num_indexed))).encode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    print(server.server_address[1], flush=True)
    server.serve_forever()
