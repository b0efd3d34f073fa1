"""Temporary folders of this machine, of which killed processes leave none for good."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cloud.descriptors import FOLDER

PREFIX = "perdure-scratch-"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A new private folder in the system's temporary folder, gone at the end.

    It is locked meanwhile, so that those that killed processes of this user left are known: they go first.
    """
    _remove_leftovers(Path(tempfile.gettempdir()))
    path, lock = _new_locked()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _remove_leftovers(temporary: Path) -> None:
    for path in temporary.glob(f"{PREFIX}*"):
        with suppress(OSError), _opened(path) as folder:
            if os.fstat(folder).st_uid == os.getuid():
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    folder = os.open(path, FOLDER | os.O_NOFOLLOW)
    try:
        yield folder
    finally:
        os.close(folder)


def _new_locked() -> tuple[Path, int]:
    """A new folder and the descriptor that locks it; made again when somebody who clears up was faster."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            lock = os.open(path, FOLDER)
            with suppress(OSError):  # without locks (some mounts) leftovers stay, which is all that is lost
                fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return path, lock
            os.close(lock)
