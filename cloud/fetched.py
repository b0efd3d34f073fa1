"""A file that was fetched into memory, for one reading."""

import io
from collections.abc import Sequence
from typing import BinaryIO

from cloud.allocator import give_back
from cloud.transfer import PART_BYTES

SKIPPED_BYTES = 2**16
"""What a reading from beginning to end may pass over: headers and padding."""

NUM_GIVEN_BACK = 8
"""After so many parts the allocator is asked for their memory: by itself it kept a third of a file of 1 GB."""


class Fetched(io.RawIOBase, BinaryIO):
    """The parts of a file, PART_BYTES each; `name` is the file's.

    They are given up while the file is read from its beginning to its end, so that it is never there as a whole beside
    what is made of it. Until then it can be read anywhere. Whoever reads on behind a part may look back by one.
    """

    def __init__(self, name: str, parts: Sequence[memoryview]) -> None:
        self._name = name
        self._parts = dict(enumerate(parts))
        self._size = sum(map(len, parts))
        self._place = self._read_to = 0

    @property
    def name(self) -> str:
        """The file's."""
        return self._name

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The place of the next read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As of any file."""
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill all of the buffer, up to the end of the file; OSError for what was given up."""
        target, start = memoryview(buffer).cast("B"), self._place
        end = min(start + len(target), self._size)
        while self._place < end:
            number, offset = divmod(self._place, PART_BYTES)
            if number not in self._parts:
                raise OSError(f"{self._name}: read a second time, and it was given up")
            piece = self._parts[number][offset : offset + end - self._place]
            target[self._place - start :][: len(piece)] = piece
            self._place += len(piece)
        self._give_up(start, end)
        return max(0, end - start)

    def close(self) -> None:
        """Give up all of it."""
        self._parts.clear()
        super().close()

    def _give_up(self, start: int, end: int) -> None:
        if self._read_to < end and start <= self._read_to + SKIPPED_BYTES:
            for number in range(self._read_to // PART_BYTES - 1, end // PART_BYTES - 1):
                if self._parts.pop(number, None) is not None and number % NUM_GIVEN_BACK == NUM_GIVEN_BACK - 1:
                    give_back()
            self._read_to = end
