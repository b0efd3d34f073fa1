"""The headers of a tar that holds nothing but plain files and folders, read without tarfile: a tenth of its time.

Whatever is unusual or wrong is left to tarfile, so that only it says what a tar may be. The form is that of POSIX
(IEEE Std 1003.1, pax): a block of 512 bytes per header, content padded to whole blocks, two blocks of zeros at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BLOCK = 512
USTAR, GNU = b"ustar\x0000", b"ustar  \x00"
FILE, FOLDER, RECORDS = KINDS = tuple(b"05x")
NAME, SIZE, SUM, MAGIC, PREFIX = (slice(*ends) for ends in ((0, 100), (124, 136), (148, 156), (257, 265), (345, 500)))
KIND = 156
HARMLESS = frozenset({b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"comment"})
"""Keys of extended records that change neither where a file is nor what it is called."""
ROWS = 4096


@dataclass(frozen=True)
class PlainFiles:
    """Name, start and size of each file, in order, and where the first block of zeros is."""

    files: list[tuple[str, int, int]]
    end: int


class _Unusual(Exception):
    """This is not for us."""


def plain_files(content: memoryview) -> PlainFiles | None:
    """The files of a whole archive; None when there is anything in it that tarfile should see."""
    try:
        offsets, sizes, end = _walk(content)
        names = [name for first in range(0, len(offsets), ROWS) for name in _names(content, offsets[first:][:ROWS])]
    except (_Unusual, ValueError):
        return None
    members = zip(names, offsets, sizes, strict=True)
    return PlainFiles([(name, offset + BLOCK, size) for name, offset, size in members if name], end)


def _walk(content: memoryview) -> tuple[list[int], list[int], int]:
    """Place of each header and size of what follows it, up to the first block of zeros: its place."""
    offsets: list[int] = []
    sizes: list[int] = []
    offset, kind = 0, FILE
    while offset + BLOCK <= len(content):
        before, kind = kind, content[offset + KIND]
        if before == RECORDS and kind not in (FILE, FOLDER):  # what they are about follows them
            raise _Unusual
        if not content[offset] and not any(content[offset : offset + BLOCK]):
            return offsets, sizes, offset
        size = int(bytes(content[offset + 124 : offset + 135]), 8)  # ValueError; `_names` looks closer
        offsets.append(offset)
        sizes.append(size)
        offset += BLOCK + -(-size // BLOCK) * BLOCK
    raise _Unusual


def _names(content: memoryview, offsets: list[int]) -> Iterator[str]:
    """The name that each of these headers gives to a file, "" where it is of something else."""
    headers = sliding_window_view(np.frombuffer(content, np.uint8), BLOCK)[offsets]
    _check(headers)
    kinds = headers[:, KIND].tolist()
    for place in np.flatnonzero(headers[:, KIND] == RECORDS).tolist():
        start, size = offsets[place] + BLOCK, int(bytes(headers[place, SIZE][:11]), 8)
        _check_records(bytes(content[start : start + size]))
    names = _texts(headers[:, NAME])
    prefixes = _texts(headers[:, PREFIX]) if headers[:, PREFIX.start].any() else [""] * len(names)
    for kind, name, prefix in zip(kinds, names, prefixes, strict=True):
        yield (f"{prefix}/{name}" if prefix else name) if kind == FILE else ""


def _check(headers: np.ndarray) -> None:
    """Whether headers, uint8 of shape (n, 512), are of a known form, and add up to what they say."""
    mark = bytes(headers[0, MAGIC])
    numbers = np.concatenate([_octal(headers[:, SUM][:, :6]), _octal(headers[:, SIZE][:, :11])]).reshape(2, -1)
    ends = np.concatenate([headers[:, SUM][:, 6:], headers[:, SIZE][:, 11:]], axis=1)
    folders_are_empty = not numbers[1][headers[:, KIND] == FOLDER].any()
    known = np.isin(headers[:, KIND], KINDS).all() and folders_are_empty
    if not known or mark not in (USTAR, GNU) or (headers[:, MAGIC] != headers[0, MAGIC]).any():
        raise _Unusual
    if ((ends != 0) & (ends != ord(" "))).any() or (mark == GNU and headers[:, PREFIX.start].any()):
        raise _Unusual
    sums = headers.sum(axis=1, dtype=np.uint32) + 8 * ord(" ") - headers[:, SUM].sum(axis=1, dtype=np.uint32)
    if (sums != numbers[0]).any():
        raise _Unusual


def _octal(digits: np.ndarray) -> np.ndarray:
    """Octal digits, uint8 of shape (n, digits), as int64 of shape (n,)."""
    values = digits.astype(np.int64) - ord("0")
    if ((values < 0) | (values > 7)).any():
        raise _Unusual
    return values @ 8 ** np.arange(digits.shape[1], dtype=np.int64)[::-1]


def _texts(fields: np.ndarray) -> list[str]:
    """Texts of ASCII, each up to its end; of other ones tarfile knows what they mean."""
    if (fields > 127).any():
        raise _Unusual
    texts = np.ascontiguousarray(fields).view(f"S{fields.shape[1]}").ravel().tolist()
    return [text.partition(b"\0")[0].decode() for text in texts]


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
