"""Reading shards that may be compressed: by name (`.gz`, `.zst`, `.bz2`, `.xz`), as one bounded stream of bytes."""

import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError

SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
MAX_BYTES = 4 * 10**9
BUFFER_BYTES = 2**20


@contextmanager
def open_shard(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[BinaryIO]:
    """The content of a local shard, decompressed, as a stream that can be read and iterated but not rewound.

    Reading raises ValueError where the compressed bytes are damaged or cut short, or where there are more than
    `max_bytes`: a few kilobytes can decompress to petabytes.
    """
    with _open(path) as content:
        yield io.BufferedReader(_Bounded(content, max_bytes), BUFFER_BYTES)


def _open(path: Path) -> BinaryIO:
    if path.suffix not in SUFFIXES:
        return path.open("rb")
    import smart_open  # it imports the clients of all clouds: plain shards need not wait for them

    opened: BinaryIO = smart_open.open(path.absolute(), "rb")  # absolute, so that no name can look like a URL
    return opened


class _Bounded(io.RawIOBase):
    """A stream around a stream: at most `max_bytes` of it, and one kind of error for all ways to be damaged."""

    def __init__(self, content: BinaryIO, max_bytes: int) -> None:
        self._content = content
        self._left = self._max_bytes = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        data = self._read(len(view))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"its content is larger than --max_shard_bytes {self._max_bytes:,} allow")
        view[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        try:
            return self._content.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, ZstdError) as error:
            raise ValueError(f"its compressed content is damaged: {error}") from error
        except OSError as error:
            if error.errno is not None:  # the disk's fault; those of gzip and bz2 carry no number
                raise
            raise ValueError(f"its compressed content is damaged: {error}") from error
