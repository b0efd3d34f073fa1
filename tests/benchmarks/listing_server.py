"""An S3 endpoint that lists any number of objects and holds none, to measure a catalog of a million shards with.

python -m tests.benchmarks.listing_server NUM_OBJECTS prints its port; GET /requests tells how many pages it served.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
PREFIX = "data/"
HEAD = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{}&quot;</ETag>"
    "<Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def key(number: int) -> str:
    """The key of object `number`, relative to PREFIX; they sort by number."""
    return f"shard-{number:08d}.tar"


def etag(number: int) -> str:
    """Its ETag."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"


def size(number: int) -> int:
    """Its size in bytes."""
    return 10_240 + number % 1000


class Listing(BaseHTTPRequestHandler):
    """ListObjectsV2 of the objects, page by page, after a key or a token."""

    protocol_version = "HTTP/1.1"
    num_objects = 0
    num_requests = 0

    def do_GET(self) -> None:
        path, asked = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/requests":
            self._send(str(Listing.num_requests))
            return
        Listing.num_requests += 1
        prefix = asked.get("prefix", [""])[0]
        after = asked.get("continuation-token", asked.get("start-after", [""]))[0]
        first = self._first_after(after.removeprefix(PREFIX)) if PREFIX.startswith(prefix) else self.num_objects
        self._send(self._page(first))

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

    def _send(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    Listing.num_objects = int(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    print(server.server_address[1], flush=True)
    server.serve_forever()
