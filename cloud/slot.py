"""A local folder of bounded size that one process at a time holds, for contents named by their digest."""

import fcntl
import itertools
import os
import re
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cloud.errors import UrlError
from cloud.transfer import file_errors

_LOCK = "lock"
_PARTIAL = ".partial"
_OURS = re.compile(rf"[0-9a-f]{{64}}(\.[a-z0-9]{{1,8}}){{0,2}}|[0-9]+{re.escape(_PARTIAL)}")
_ENDING = re.compile(r"(\.[a-z0-9]{1,8}){0,2}$")


@dataclass(eq=False)
class Content:
    """A whole file. `verified` means that this process digested it; `key` is what it was last wanted for."""

    path: Path
    name: str
    size: int
    verified: bool = True
    key: str = ""
    num_pins: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 in hex."""
        return self.name[:64]


def content_name(digest: str, key: str) -> str:
    """What a content is called: its digest, and what the key ends in, because readers go by that (.tar, .csv.gz)."""
    ending = _ENDING.search(key.rpartition("/")[2])
    return digest + (ending.group() if ending and not ending.group().endswith(_PARTIAL) else "")


class Slot:
    """The first of the folders `directory`/0, /1, ... that no other process holds; names of files are never keys.

    What killed processes left there counts: whole files are kept as unverified contents, partial ones deleted,
    files of somebody else left alone. Not for several threads at once: its owner locks.
    Raises UrlError where `directory` is a file or a link that leads nowhere.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.contents: OrderedDict[str, Content] = OrderedDict()  # least recently used first
        self.path, self._lock = _take_free(directory)
        self._used_bytes = 0
        self._partial_numbers = itertools.count()
        with file_errors(self.path):
            self._look_through()
        while self.free_bytes < 0 and self.contents:
            self.evict(next(iter(self.contents.values())))

    @property
    def free_bytes(self) -> int:
        """How much more may be reserved; negative when files of somebody else take more than the limit."""
        return self.limit_bytes - self._used_bytes

    def reserve(self, size: int) -> Path:
        """Count `size` bytes as used and return the new file that they are for."""
        self._used_bytes += size
        return self.path / f"{next(self._partial_numbers)}{_PARTIAL}"

    def give_back(self, path: Path, size: int) -> None:
        """Undo `reserve`, whether or not the file is there."""
        with file_errors(path):
            path.unlink(missing_ok=True)
        self._used_bytes -= size

    def keep(self, path: Path, size: int, name: str) -> Content:
        """Make a content of a reserved file that is whole and verified; of two that are equal one stays."""
        content = self.contents.get(name)
        if content is not None and content.verified and content.path.exists():
            self.give_back(path, size)
            return content
        with file_errors(path):
            path.rename(self.path / name)
        if content is None:
            content = self.contents[name] = Content(self.path / name, name, size)
        else:
            self._used_bytes -= content.size
            content.size, content.verified = size, True
        return content

    def reopen(self, content: Content) -> Path:
        """Make a reserved file of a content again, which may have been deleted behind our back."""
        del self.contents[content.name]
        self._used_bytes -= content.size
        path = self.reserve(content.size)
        with file_errors(path), suppress(FileNotFoundError):
            content.path.rename(path)
        return path

    def evict(self, content: Content) -> None:
        """Delete a content."""
        del self.contents[content.name]
        self.give_back(content.path, content.size)

    def close(self) -> None:
        """Let another process have the folder, with what is in it."""
        self._lock.close()

    def _look_through(self) -> None:
        with os.scandir(self.path) as entries:  # there may be a million
            found = [(entry, entry.stat(follow_symlinks=False)) for entry in entries if entry.name != _LOCK]
        for entry, stat in sorted(found, key=lambda item: item[1].st_mtime_ns):
            path = self.path / entry.name
            if not _OURS.fullmatch(entry.name) or not entry.is_file():
                self._used_bytes += _total_bytes(path)
            elif entry.name.endswith(_PARTIAL):
                path.unlink()
            else:
                self._used_bytes += stat.st_size
                self.contents[entry.name] = Content(path, entry.name, stat.st_size, verified=False)


def _take_free(directory: Path) -> tuple[Path, BinaryIO]:
    _make(directory)
    for number in itertools.count():
        path = directory / str(number)
        with file_errors(path), suppress(FileExistsError, BlockingIOError):  # no folder, or another process's
            path.mkdir(mode=0o700, exist_ok=True)
            return path, _locked(path / _LOCK)
    raise AssertionError("there is always one more number")


def _make(directory: Path) -> None:
    try:
        with file_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # a file, or a link that leads nowhere
        raise UrlError(f"{directory}: is no folder; name another one with --cache_dir") from None


def _locked(path: Path) -> BinaryIO:
    """The open file, which nobody else has locked; BlockingIOError when somebody has."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return file


def _total_bytes(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    return sum(file.lstat().st_size for file in (path, *inside) if file.is_symlink() or file.is_file())
