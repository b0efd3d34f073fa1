"""The folder of the cache: one process at a time, every byte counted, nothing of somebody else deleted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.errors import UrlError
from cloud.slot import Slot

A, B, C = "a" * 64, "b" * 64, "c" * 64


def names(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def fill(slot: Slot, digest: str, size: int) -> None:
    path = slot.reserve(size)
    path.write_bytes(bytes(size))
    slot.keep(path, size, digest)


def test_two_holders_get_different_folders(tmp_path: Path) -> None:
    first, second = Slot(tmp_path / "cache", 10), Slot(tmp_path / "cache", 10)
    assert [first.path, second.path] == [tmp_path / "cache/0", tmp_path / "cache/1"]
    first.close()
    third = Slot(tmp_path / "cache", 10)
    assert third.path == first.path
    second.close()
    third.close()


def test_what_a_killed_process_left_counts_and_is_found(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cloud.slot import Slot\n"
        "slot = Slot(Path(sys.argv[1]), 100)\n"
        "whole = slot.reserve(30); whole.write_bytes(bytes(30)); slot.keep(whole, 30, 'a' * 64)\n"
        "slot.reserve(50).write_bytes(bytes(50)); print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert names(tmp_path / "0") == {"lock", A, "1.partial"}
    beside = Slot(tmp_path, 100)
    assert beside.path == tmp_path / "1"
    beside.close()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    slot = Slot(tmp_path, 100)
    assert slot.path == tmp_path / "0"
    assert names(slot.path) == {"lock", A}
    assert (slot.free_bytes, slot.contents[A].verified) == (70, False)
    slot.close()


def test_leftovers_beyond_a_lower_limit_go_oldest_first(tmp_path: Path) -> None:
    slot = Slot(tmp_path, 100)
    for age, digest in enumerate((B, A, C)):
        fill(slot, digest, 20)
        os.utime(slot.path / digest, (1_000_000 + age, 1_000_000 + age))
    slot.close()
    slot = Slot(tmp_path, 40)
    assert list(slot.contents) == [A, C]
    assert names(slot.path) == {"lock", A, C}
    assert slot.free_bytes == 0
    slot.close()


def test_files_of_somebody_else_count_and_stay(tmp_path: Path) -> None:
    (tmp_path / "0/folder").mkdir(parents=True)
    (tmp_path / "0/folder/theirs").write_bytes(bytes(40))
    (tmp_path / "0/notes.txt").write_bytes(bytes(30))
    (tmp_path / "0" / A).symlink_to(tmp_path / "0/notes.txt")
    slot = Slot(tmp_path, 60)
    assert slot.free_bytes < -9
    assert (tmp_path / "0/notes.txt").exists()
    assert (tmp_path / "0/folder/theirs").exists()
    slot.close()


def test_equal_contents_are_kept_once_and_space_returns(tmp_path: Path) -> None:
    slot = Slot(tmp_path, 100)
    fill(slot, A, 30)
    fill(slot, A, 30)
    assert slot.free_bytes == 70
    content = slot.contents[A]
    path = slot.reopen(content)
    assert path.exists()
    assert (slot.free_bytes, len(slot.contents)) == (70, 0)
    slot.give_back(path, 30)
    fill(slot, B, 100)
    slot.evict(slot.contents[B])
    assert slot.free_bytes == 100
    assert names(slot.path) == {"lock"}
    slot.close()


def test_a_file_that_was_deleted_behind_our_back_comes_again(tmp_path: Path) -> None:
    slot = Slot(tmp_path, 100)
    fill(slot, A, 30)
    (slot.path / A).unlink()
    fill(slot, A, 30)
    assert slot.contents[A].path.read_bytes() == bytes(30)
    assert slot.free_bytes == 70
    slot.close()


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UrlError, match="file: is no folder; name another one with --cache_dir"):
        Slot(tmp_path / "file", 10)
    (tmp_path / "0").write_text("")
    slot = Slot(tmp_path, 10)
    assert slot.path == tmp_path / "1"
    slot.close()


def test_a_link_that_leads_nowhere_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(tmp_path / "missing")
    with pytest.raises(UrlError, match=r"cache: is no folder; name another one with --cache_dir"):
        Slot(tmp_path / "cache", 10)
