"""Features that are kept come back as they were, or not at all."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from trainer.tasks.nlu import feature_cache
from trainer.tasks.nlu.feature_cache import FeatureCache

MEGABYTE = 2**20


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def matrix(number: int, rows: int = 2, columns: int = 8) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(rows, columns)).astype(np.float16)


def fill(folder: Path, numbers: range) -> None:
    cache = FeatureCache(folder, MEGABYTE)
    for number in numbers:
        cache.put(key(number), matrix(number))


def known(folder: Path, numbers: range, max_bytes: int = MEGABYTE) -> list[int]:
    """Which of the numbers come back; what does must be right."""
    cache = FeatureCache(folder, max_bytes)
    found = {number: cache.get(key(number)) for number in numbers}
    assert all(one is None or np.array_equal(one, matrix(number)) for number, one in found.items())
    return [number for number, one in found.items() if one is not None]


def test_what_was_put_comes_back_in_this_process_and_the_next(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "new", MEGABYTE)
    cache.put(key(1), matrix(1, rows=0))
    cache.put(key(2), matrix(2))
    for one in (cache, FeatureCache(tmp_path / "new", MEGABYTE)):
        assert np.array_equal(one.get(key(2)), matrix(2))  # type: ignore[arg-type]
        assert one.get(key(1)).shape == (0, 8)  # type: ignore[union-attr]
        assert one.get(key(3)) is None


@pytest.mark.parametrize("lost_bytes", [1, 33, 60, 90])
def test_a_file_that_was_cut_off_gives_what_is_whole(tmp_path: Path, lost_bytes: int) -> None:
    fill(tmp_path, range(10))
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - lost_bytes)
    found = known(tmp_path, range(10))
    assert found == list(range(len(found)))
    assert len(found) == 9 - lost_bytes // 69  # a record is 32 bytes of numbers and 36 of head and checksum


def test_any_damaged_byte_costs_records_but_never_gives_a_wrong_one(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert len(known(tmp_path, range(3))) < 3


def test_a_damaged_record_is_kept_anew(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert known(tmp_path, range(3)) == [0, 1]
    fill(tmp_path, range(2, 3))
    assert known(tmp_path, range(3)) == [0, 1, 2]


def test_the_longest_unused_go_first_and_the_limit_holds(tmp_path: Path) -> None:
    for number in range(4):
        fill(tmp_path, range(100 * number, 100 * number + 100))
    limit = 2 * sum(path.stat().st_size for path in tmp_path.iterdir()) // 2
    oldest = min(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert known(tmp_path, range(100, 200), limit * 2) == list(range(100, 200))  # used now
    assert oldest.exists()
    cache = FeatureCache(tmp_path, limit)
    assert [number for number in range(400) if cache.get(key(number)) is not None] == [
        *range(100, 200),
        *range(300, 400),
    ]
    for number in range(1000, 2000):
        cache.put(key(number), matrix(number))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert limit * 0.9 < size <= limit


def test_there_are_never_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "MAX_FILES", 3)
    for number in range(6):
        fill(tmp_path, range(number, number + 1))
    assert known(tmp_path, range(6)) == [3, 4, 5]


def test_two_at_a_time_write_files_of_their_own(tmp_path: Path) -> None:
    first, second = FeatureCache(tmp_path, MEGABYTE), FeatureCache(tmp_path, MEGABYTE)
    for number in range(20):
        (first if number % 2 else second).put(key(number), matrix(number))
    assert known(tmp_path, range(20)) == list(range(20))


def test_threads_may_share_it(tmp_path: Path) -> None:
    cache, wrong = FeatureCache(tmp_path, MEGABYTE), []

    def work(start: int) -> None:
        for number in range(start, start + 200):
            cache.put(key(number), matrix(number))
            if not np.array_equal(cache.get(key(number)), matrix(number)):  # type: ignore[arg-type]
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_files_that_go_away_cost_only_themselves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, range(3))
    (tmp_path / f"gone{feature_cache._SUFFIX}").symlink_to(tmp_path / "nowhere")  # listed, and not there
    cache = FeatureCache(tmp_path, MEGABYTE)
    for path in tmp_path.glob("*"):
        path.unlink()
    assert all(np.array_equal(cache.get(key(number)), matrix(number)) for number in range(3)), "it is open"
    cache.put(key(9), matrix(9))
    assert cache.get(key(9)) is not None and not caplog.records


def test_a_folder_that_cannot_be_used_costs_only_the_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file" / "below", MEGABYTE)
    cache.put(key(1), matrix(1))
    assert cache.get(key(1)) is None
    assert "cannot be kept" in caplog.text


def test_a_full_cache_says_so_once_and_what_it_holds_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FeatureCache(tmp_path, 150)  # two records of 68 bytes
    for number in range(5):
        cache.put(key(number), matrix(number))
    assert [cache.get(key(number)) is not None for number in range(5)] == [True, True, False, False, False]
    (line,) = caplog.messages
    assert "encoder_cache_bytes" in line and str(tmp_path) in line
