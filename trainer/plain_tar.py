"""The headers of a tar that holds nothing but plain files and folders, read without tarfile: a tenth of its time.

Whatever is unusual or wrong is left to tarfile, so that only it says what a tar may be. The form is that of POSIX
(IEEE Std 1003.1, pax): a block of 512 bytes per header, content padded to whole blocks, two blocks of zeros at the end.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 512
HEADER = struct.Struct("100s24x12s12x8s1s100x8s80x155s12x")
USTAR, GNU = b"ustar\x0000", b"ustar  \x00"
FILE, FOLDER, RECORDS = b"0", b"5", b"x"
OCTAL = re.compile(rb"[0-7]{6,11}[ \0]{0,2}")
HARMLESS = frozenset({b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"comment"})
"""Keys of extended records that change neither where a file is nor what it is called."""
ROWS = 4096


@dataclass(frozen=True)
class PlainFiles:
    """Name, start and size of each file, in order, and where the first block of zeros is."""

    files: list[tuple[str, int, int]]
    end: int


def plain_files(content: memoryview) -> PlainFiles | None:
    """The files of a whole archive; None when there is anything in it that tarfile should see."""
    files: list[tuple[str, int, int]] = []
    headers: list[tuple[int, int]] = []
    try:
        end = _walk(content, files, headers)
    except _Unusual:
        return None
    return PlainFiles(files, end) if _sums_agree(content, np.array(headers, np.int64).reshape(-1, 2)) else None


class _Unusual(Exception):
    """This is not for us."""


def _walk(content: memoryview, files: list[tuple[str, int, int]], headers: list[tuple[int, int]]) -> int:
    """Collect the files, and place and check sum of each header, up to the first block of zeros: its place."""
    offset, before = 0, FILE
    while offset + BLOCK <= len(content):
        name, size_text, sum_text, kind, magic, prefix = HEADER.unpack_from(content, offset)
        if not name[0] and before != RECORDS and not any(content[offset : offset + BLOCK]):
            return offset
        size, start = _octal(size_text), offset + BLOCK
        if magic not in (USTAR, GNU) or (magic == GNU and prefix[0]) or start + size > len(content):
            raise _Unusual
        headers.append((offset, _octal(sum_text)))
        if kind == FILE:
            files.append((_name(name, prefix), start, size))
        elif kind == RECORDS and before != RECORDS:
            _check_records(bytes(content[start : start + size]))
        elif kind != FOLDER or size:
            raise _Unusual
        offset, before = start + -(-size // BLOCK) * BLOCK, kind
    raise _Unusual


def _octal(text: bytes) -> int:
    if not OCTAL.fullmatch(text):
        raise _Unusual
    return int(text.rstrip(b" \0"), 8)


def _name(name: bytes, prefix: bytes) -> str:
    """ASCII: of other names tarfile knows what they mean."""
    whole = name.partition(b"\0")[0]
    if prefix[0]:
        whole = prefix.partition(b"\0")[0] + b"/" + whole
    if not whole.isascii() or not whole or whole.endswith(b"/"):
        raise _Unusual
    return whole.decode()


def _check_records(records: bytes) -> None:
    """Extended records, each "LENGTH KEY=VALUE" and a line feed, must only say what does not matter here."""
    for key in _keys(records):
        if key not in HARMLESS:
            raise _Unusual


def _keys(records: bytes) -> Iterator[bytes]:
    while records:
        length, space, rest = records.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or not len(length) + 3 < int(length) <= len(records):
            raise _Unusual
        key, equals, value = rest[: int(length) - len(length) - 1].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise _Unusual
        yield key
        records = records[int(length) :]


def _sums_agree(content: memoryview, headers: np.ndarray) -> bool:
    """Whether each header's bytes add up to what it says, with its own field taken for spaces."""
    numbers = np.frombuffer(content, np.uint8)
    for first in range(0, len(headers), ROWS):
        offsets, sums = headers[first : first + ROWS].T
        blocks = numbers[offsets[:, None] + np.arange(BLOCK)].astype(np.int64)
        blocks[:, 148:156] = ord(" ")
        if (blocks.sum(axis=1) != sums).any():
            return False
    return True
