"""Files and folders by open descriptors, so that no symbolic link can slip in between looking and using."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cloud.errors import AccessDenied, CloudError, StoreError, StoreFull, Unreachable, UrlError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_IN_THE_WAY = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EINVAL}
_MAY_CHANGE = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EHOSTDOWN, errno.ENOTCONN, errno.EBUSY}
_NO_OBJECT = {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


def meaning(error: OSError, where: str) -> Exception:
    """What an error of the file system means for the object or folder `where`."""
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, "the key is taken", where)
    if isinstance(error, FileNotFoundError):
        return Unreachable(f"{where}: its folder went away while it was written")
    return _store_error(error.errno or 0)(f"{where}: {reason}{_advice(error.errno or 0)}")


def means_no_object(error: OSError) -> bool:
    """Whether opening failed because there is no object of that name: nothing, a folder, or a symbolic link."""
    return error.errno in _NO_OBJECT


def _store_error(number: int) -> type[CloudError]:
    table: list[tuple[set[int], type[CloudError]]] = [
        (_DENIED, AccessDenied),
        (_FULL, StoreFull),
        (_IN_THE_WAY, UrlError),
        (_MAY_CHANGE, Unreachable),
    ]
    return next((kind for numbers, kind in table if number in numbers), StoreError)


def _advice(number: int) -> str:
    if number in _FULL:
        return "; make room there"
    if number in _DENIED:
        return "; let this user write there, or name another folder"
    if number in (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY):
        return "; remove what is in the way there, or name another folder"
    return ""


@contextmanager
def opened_folder(name: str, outer: int) -> Iterator[int]:
    """A subfolder of an open folder; a symbolic link is none."""
    folder = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=outer)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def opened_file(name: str, folder: int) -> Iterator[BinaryIO]:
    """A regular file of an open folder, for reading; FileNotFoundError for anything else of that name."""
    with os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(errno.ENOENT, "no regular file", name)
        yield file


@contextmanager
def new_file(name: str, folder: int) -> Iterator[int]:
    """A new file of an open folder, locked as long as it is open and no longer of this name afterwards."""
    file = _locked_file(name, folder)
    try:
        yield file
    finally:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        os.close(file)


def _locked_file(name: str, folder: int) -> int:
    """A new file with a lock on it, made again when somebody who clears leftovers away was faster than the lock."""
    while True:
        file = os.open(name, _NEW_FILE, 0o666, dir_fd=folder)
        with suppress(OSError):  # without locks (some mounts) leftovers stay, which is all that is lost
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            return file
        os.close(file)


def write_all(file: int, data: bytes | memoryview) -> int:
    """Write all of `data` to an open file and return its length."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(file, rest) :]
    return len(data)


def remove_unlocked(folder: int) -> None:
    """Remove the files of an open folder that no process holds a lock on."""
    for name in os.listdir(folder):
        with suppress(OSError), opened_file(name, folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Since it was opened, another process may have removed it, and its writer made it again.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(name, dir_fd=folder, follow_symlinks=False)):
                os.unlink(name, dir_fd=folder)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that survive a power cut."""
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        # Another process that makes it may be faster at any moment: only what is there now tells.
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "there is a file of that name, no folder", str(path)) from None
    except FileNotFoundError:  # the folder above is there; so /proc and the like
        raise PermissionError(errno.EPERM, "no folder can be made", str(path)) from None
    sync_path(path.parent)


def make_subfolder(name: str, folder: int) -> None:
    """Make a subfolder of an open folder, where it is missing, that survives a power cut."""
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
        sync(folder)


def sync_path(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    folder = os.open(path, FOLDER)
    try:
        sync(folder)
    finally:
        os.close(folder)


def sync(folder: int) -> None:
    """Make the names in an open folder survive a power cut."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # mounts that cannot sync a folder
            raise
