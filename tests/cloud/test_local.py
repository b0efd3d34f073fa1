"""Local folders: links, leftovers, full and read-only disks, mounts without hard links."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from cloud.errors import AccessDenied, Damaged, NoSuchBucket, StoreFull, UrlError
from cloud.local import STAGING, LocalStore


def opened(root: Path) -> LocalStore:
    return LocalStore(str(root), root, writable=True)


def keys(store: LocalStore) -> list[str]:
    return [entry.key for entry in store.list()]


def staged(root: Path) -> list[str]:
    return [path.name for path in (root / STAGING).iterdir()]


def test_a_missing_folder_cannot_be_read_and_is_made_for_writing(tmp_path: Path) -> None:
    root = tmp_path / "new" / "folder"
    reading = LocalStore(str(root), root)
    for ask in (lambda: keys(reading), lambda: reading.read("x"), lambda: reading.stat("x")):
        with pytest.raises(NoSuchBucket, match="new/folder: no such folder; create it or mend the path"):
            ask()
    assert not root.exists()
    assert keys(opened(root)) == []
    assert root.is_dir()


def make_all(root: Path, num_folders: int, started: Barrier) -> None:
    """In a process of its own: open each folder when the others do."""
    for i in range(num_folders):
        started.wait(10)
        opened(root / f"{i}" / "a" / "b")


def test_a_missing_folder_is_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    num_processes, num_folders = 4, 300
    arguments = (tmp_path, num_folders, spawn.Barrier(num_processes))
    processes = [spawn.Process(target=make_all, args=arguments, daemon=True) for _ in range(num_processes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * num_processes
    assert len(list(tmp_path.glob("*/a/b"))) == num_folders


def test_a_store_opened_for_reading_makes_its_folder_when_it_writes(tmp_path: Path) -> None:
    store = LocalStore("folder", tmp_path / "folder", writable=True)
    store.put("a/b", b"content")
    assert (tmp_path / "folder" / "a" / "b").read_bytes() == b"content"


def test_an_object_can_be_read_in_place(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put("a/b", b"content")
    path = store.local_path("a/b")
    assert path is not None
    assert path.read_bytes() == b"content"
    assert store.local_path("a") is None


def test_symbolic_links_are_neither_followed_nor_listed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store = opened(root)
    (root / "file").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    assert keys(store) == []
    for key in ("file", "folder/secret"):
        with pytest.raises(FileNotFoundError):
            store.read(key)
        assert store.local_path(key) is None
        store.delete("folder/secret")
    with pytest.raises(UrlError, match="folder/new"):
        store.put("folder/new", b"")
    store.put("file", b"mine")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert store.read("file") == b"mine"


def test_links_that_are_passed_over_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(tmp_path)
    store.put("a", b"")
    for name in ("b", "c", ".d", "_e"):
        (tmp_path / name).symlink_to(tmp_path / "a")
    assert keys(store) == ["a"]
    (record,) = caplog.records
    text = f"passed over 2 symbolic links in {store.url}, such as "
    assert record.getMessage() in {text + f"{name}; put the files themselves there" for name in "bc"}


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    opened(tmp_path / "link").put("a", b"content")
    assert (tmp_path / "real" / "a").read_bytes() == b"content"


def test_other_things_than_files_are_not_listed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    assert keys(store) == []
    for key in ("pipe", "empty"):
        with pytest.raises(FileNotFoundError):
            store.read(key)


def test_a_name_that_is_not_utf8_is_said(tmp_path: Path) -> None:
    store = opened(tmp_path)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/Gr\xfc\xdfe.csv")).write_bytes(b"")
    with pytest.raises(Damaged, match="is not UTF-8; rename it"):
        keys(store)


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put("a/b", b"")
    with pytest.raises(UrlError, match="a: is a directory"):
        store.put("a", b"")
    with pytest.raises(UrlError, match="a/b/c: not a directory"):
        store.put("a/b/c", b"")
    with pytest.raises(UrlError, match="there is a file of that name, no folder; remove"):
        opened(tmp_path / "a" / "b" / "root")
    assert staged(tmp_path) == []


KILLED_WRITER = """
import sys, time
from cloud.open import open_store
with open_store(sys.argv[1], writable=True).writer("big") as writer:
    writer.write(bytes(1000))
    print("written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_leaves_is_never_listed_and_cleared_by_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        store = opened(tmp_path)
        assert len(staged(tmp_path)) == 1  # the writer is alive
        process.send_signal(signal.SIGKILL)
    assert keys(store) == []
    assert len(staged(tmp_path)) == 1
    opened(tmp_path)
    assert staged(tmp_path) == []


def test_opening_again_does_not_disturb_a_writer(tmp_path: Path) -> None:
    with opened(tmp_path).writer("a") as writer:
        writer.write(b"content")
        opened(tmp_path)
    assert opened(tmp_path).read("a") == b"content"


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory; skipped where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "perdure-test", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=1m") as root:
        store = opened(root)
        store.put("kept", bytes(500_000))
        with pytest.raises(StoreFull, match="small/big: no space left on device; make room there"):
            store.put("big", bytes(2_000_000))
        with pytest.raises(StoreFull), store.writer("big") as writer:
            for _ in range(100):
                writer.write(bytes(100_000))
        assert (keys(store), staged(root)) == (["kept"], [])
        store.put("small", bytes(100_000))


def test_a_read_only_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "size=1m") as root:
        store = opened(root)
        store.put("a", b"content")
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        for write in (lambda: store.put("a", b""), lambda: store.create("b", b""), lambda: store.delete("a")):
            with pytest.raises(AccessDenied, match=r"fixed/[ab]: read-only file system; let this user write there"):
                write()
        with pytest.raises(AccessDenied, match="fixed: read-only"):
            opened(root)
        assert LocalStore("fixed", root).read("a") == b"content"


def test_a_place_where_no_folder_can_be_made() -> None:
    with pytest.raises(AccessDenied, match="no folder can be made"):
        opened(Path("/proc/perdure"))


# Lets the kernel refuse hard links to this process, as mounted buckets do.
WITHOUT_LINKS = """
import ctypes, platform, struct, sys
linkat = {"x86_64": 265, "aarch64": 37}[platform.machine()]
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, linkat), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
from cloud.open import open_store
store = open_store(sys.argv[1], writable=True)
store.create("a", b"1")
store.create("a", b"2")
print(store.can_create, store.read("a"), [entry.key for entry in store.list()])
"""


def test_without_hard_links_create_is_a_plain_put(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LINKS, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}, check=False)
    assert (result.stdout, result.stderr) == ("False b'2' ['a']\n", "")
    assert staged(tmp_path) == []


def test_clearing_leftovers_away_never_takes_what_is_being_written(tmp_path: Path) -> None:
    """A submission that opens the folder clears it of leftovers while the running one writes."""
    store, over = LocalStore(str(tmp_path), tmp_path, writable=True), threading.Event()

    def reopen() -> None:
        while not over.is_set():
            LocalStore(str(tmp_path), tmp_path, writable=True)

    others = [threading.Thread(target=reopen) for _ in range(3)]
    for other in others:
        other.start()
    try:
        for number in range(300):
            store.put(f"{number}", b"whole")
    finally:
        over.set()
        for other in others:
            other.join()
    assert [store.read(entry.key) for entry in store.list()] == [b"whole"] * 300
