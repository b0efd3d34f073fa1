"""Features that took long to compute, kept on disk by the digest of what they are of.

A file is a row of records, each with its size and checksum; every process appends to a file of its own. A record that
is cut off or damaged counts as missing, so nothing here needs a lock between processes or a flush to the disk.
"""

import logging
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

_LOG = logging.getLogger(__name__)
_HEADER = struct.Struct("<4s16sIII")  # mark, key, rows, columns, CRC-32 of all that
_CHECK = struct.Struct("<I")
_MARK = b"PFv1"
_SUFFIX = ".features"
MAX_FILES = 64


class _Place(NamedTuple):
    """Where a record's numbers lie."""

    file: BinaryIO
    path: Path
    offset: int
    shape: tuple[int, int]


class FeatureCache:
    """float16 matrices by keys of 16 bytes. Any thread may use it; what the disk refuses is only not kept."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """At most half of `max_bytes` is taken over from earlier processes, what was used last before the rest."""
        self._folder = folder
        self._free_bytes = max_bytes
        self._is_full = False
        self._places: dict[bytes, _Place] = {}
        self._used: set[Path] = set()
        self._own: BinaryIO | None = None
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in self._kept(max_bytes // 2):
                with suppress(FileNotFoundError):  # other processes remove old ones too
                    self._open(path)
        except OSError as error:
            self._give_up(error)

    def __contains__(self, key: bytes) -> bool:
        """Whether something is kept there, damaged or not."""
        return key in self._places

    def get(self, key: bytes) -> np.ndarray | None:
        """What was put there, float16 of shape (rows, columns); None where there is none, or a damaged one."""
        with self._lock:
            place = self._places.get(key)
            return None if place is None else self._read(place)

    def put(self, key: bytes, matrix: np.ndarray) -> None:
        """Keep `matrix`, float16 of shape (rows, columns), unless there is no room."""
        numbers = matrix.tobytes()
        head = _HEADER.pack(_MARK, key, *matrix.shape, zlib.crc32(numbers))
        record = head + _CHECK.pack(zlib.crc32(head)) + numbers
        with self._lock:
            if len(record) > self._free_bytes:
                self._say_full()
                return
            try:
                self._append(record, key, matrix.shape)
            except OSError as error:
                self._give_up(error)

    def _append(self, record: bytes, key: bytes, shape: tuple[int, ...]) -> None:
        if self._own is None:
            handle, name = tempfile.mkstemp(suffix=_SUFFIX, dir=self._folder)
            self._own = os.fdopen(handle, "w+b", buffering=0)
            self._own_path = Path(name)
        offset = self._own.seek(0, os.SEEK_END)
        if self._own.write(record) != len(record):
            raise OSError("the disk took only a part of a record")
        self._free_bytes -= len(record)
        start = offset + _HEADER.size + _CHECK.size
        self._places[key] = _Place(self._own, self._own_path, start, (shape[0], shape[1]))

    def _say_full(self) -> None:
        """Once, unless nothing was to be kept in the first place."""
        if self._places and not self._is_full:
            text = "%s: no room for more features, which are computed each time; --set encoder_cache_bytes gives some"
            _LOG.warning(text, self._folder)
        self._is_full = True

    def _give_up(self, error: OSError) -> None:
        """Keep nothing more; what is kept already stays of use."""
        _LOG.warning("%s: features cannot be kept: %s; they are computed each time", self._folder, error)
        self._free_bytes, self._is_full = 0, True

    def _read(self, place: _Place) -> np.ndarray | None:
        rows, columns = place.shape
        header = place.offset - _HEADER.size - _CHECK.size
        try:
            place.file.seek(header)
            record = place.file.read(_HEADER.size + _CHECK.size + 2 * rows * columns)
        except OSError:
            return None
        if place.path not in self._used:
            self._used.add(place.path)
            with suppress(OSError):  # another process may have removed it: what is open can still be read
                os.utime(place.path)
        numbers = record[_HEADER.size + _CHECK.size :]
        if len(record) < _HEADER.size or _HEADER.unpack_from(record)[4] != zlib.crc32(numbers):
            return None
        return np.frombuffer(numbers, dtype=np.float16).reshape(rows, columns)

    def _kept(self, max_bytes: int) -> Iterator[Path]:
        """The files to go on with, oldest first; the others are removed."""
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                found.append((path.stat(), path))
        newest_first = sorted(found, key=lambda item: (item[0].st_mtime_ns, item[1]), reverse=True)
        kept: list[Path] = []
        for stat, path in newest_first:
            max_bytes -= stat.st_size
            if max_bytes >= 0 and len(kept) < MAX_FILES:
                kept.append(path)
                self._free_bytes -= stat.st_size
            else:
                path.unlink(missing_ok=True)
        return reversed(kept)

    def _open(self, path: Path) -> None:
        """Note the places of a file's records, up to the first that is cut off or damaged."""
        file = path.open("rb", buffering=0)
        size, offset = os.fstat(file.fileno()).st_size, 0
        while offset + _HEADER.size + _CHECK.size <= size:
            file.seek(offset)
            head, check = file.read(_HEADER.size), file.read(_CHECK.size)
            mark, key, rows, columns, _ = _HEADER.unpack(head)
            offset += _HEADER.size + _CHECK.size
            if mark != _MARK or check != _CHECK.pack(zlib.crc32(head)) or offset + 2 * rows * columns > size:
                break
            self._places[key] = _Place(file, path, offset, (rows, columns))
            offset += 2 * rows * columns
