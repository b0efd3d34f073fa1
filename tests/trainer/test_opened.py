"""What is decoded once stays at hand: in memory, else on disk, else it is decoded again."""

import logging
from pathlib import Path

import numpy as np
import pytest

import trainer.cores
import trainer.image_shards
from tests.trainer.tars import encode, example, write_tar
from tests.trainer.toy import FolderShards, census
from trainer.errors import BadExample
from trainer.ledger import Shard
from trainer.opened import OpenShards
from trainer.task import make_task

NUM_SHARDS, NUM_IMAGES = 4, 6
DECODED = NUM_IMAGES * 8 * 8 * 3


class Place:
    """Shards of images, and how often their files were asked for."""

    def __init__(self, folder: Path) -> None:
        for number in range(NUM_SHARDS):
            members = [example(f"{n}", "ab"[n % 2], seed=10 * number + n) for n in range(NUM_IMAGES)]
            write_tar(folder / f"{number}.tar", [member for one in members for member in one])
        self.task = make_task("images", {"image_size": "8"})
        self.shards = FolderShards(folder)

    def opened(self, memory_bytes: int, decoded: Path | None = None, disk_bytes: int = 10**9) -> OpenShards:
        self.shards.acquired.clear()
        return OpenShards(self.task, self.shards, memory_bytes, folder=decoded, disk_bytes=disk_bytes)

    def census(self, opened: OpenShards) -> list[Shard]:
        return [census(opened, self.shards, f"{number}.tar") for number in range(NUM_SHARDS)]

    def content(self, opened: OpenShards, found: list[Shard]) -> list[list[object]]:
        taken = []
        for shard in found:
            with opened.open(shard) as examples:
                batch = self.task.take([examples], np.zeros(NUM_IMAGES, np.int64), np.arange(NUM_IMAGES)[::-1])
                taken.append([(one.pixels.tolist(), one.label) for one in batch])
        return taken


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.parametrize("memory_bytes", [0, DECODED, 2 * DECODED, 10**9])
def test_what_has_no_room_in_memory_is_read_from_disk_and_never_decoded_again(place, tmp_path, memory_bytes):
    opened = place.opened(memory_bytes, tmp_path / "decoded")
    found = place.census(opened)
    first = place.content(opened, found)
    assert place.content(opened, found) == first
    assert len(place.shards.acquired) == NUM_SHARDS, "each file was asked for once"
    assert place.content(place.opened(0), found) == first, "without a disk the same is decoded each time"
    assert len(place.shards.acquired) == NUM_SHARDS
    assert list((tmp_path / "decoded").glob("*")) == [], "no name is left behind by whatever ends the process"


def test_the_disk_takes_no_more_than_it_may(place, tmp_path):
    opened = place.opened(0, tmp_path / "decoded", 2 * DECODED + 1)
    found = place.census(opened)
    place.shards.acquired.clear()
    place.content(opened, found)
    assert place.shards.acquired == ["2.tar", "3.tar"]


def test_a_disk_that_refuses_is_named_once_and_costs_no_example(place, tmp_path, caplog):
    (tmp_path / "decoded").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        opened = place.opened(0, tmp_path / "decoded")
        found = place.census(opened)
        again = place.content(opened, found)
    assert [record.message for record in caplog.records if "decoded each time" in record.message] == [
        caplog.records[0].message
    ]
    assert again == place.content(place.opened(10**9), found)


def test_a_bad_example_stays_bad_when_all_others_are_decoded(place, tmp_path):
    members = [*example("0", "a"), ("1.png", b"no image"), ("1.cls", b"b"), *example("2", "b")]
    images = place.task.read(write_tar(tmp_path / "bad.tar", members))
    for _ in range(2):
        assert images[0].label + images[2].label == "ab"
        for call in (lambda: images[1], lambda: place.task.take([images], np.zeros(2, int), np.array([0, 1]))):
            with pytest.raises(BadExample, match=r"1\.png"):
                call()
    assert images.nbytes == 3 * 8 * 8 * 3, "the members' bytes are given up"
    assert images.spill(tmp_path) == 3 * 8 * 8 * 3
    assert images.nbytes == 0
    with pytest.raises(BadExample, match=r"1\.png"):
        images[1]


@pytest.mark.parametrize(("size", "kind"), [(100, "PNG"), (100, "JPEG"), (8, "PNG"), (8, "JPEG")])
def test_what_is_decoded_in_threads_comes_out_as_without(place, tmp_path, monkeypatch, size, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    suffix = kind.lower()
    members = [(f"{n}.{suffix}", encode(pixels[n], kind)) for n in range(8)]
    members[3] = (members[3][0], members[3][1][:60])
    members += [(f"{n}.cls", b"a") for n in range(8) if n != 5]
    path = write_tar(tmp_path / "some.tar", members)
    whole, one_by_one = place.task.read(path), place.task.read(path)
    monkeypatch.setattr(trainer.cores, "num_cores", lambda: 3)
    assert whole.gains_by_threads == ((size, kind) != (8, "JPEG"))
    assert whole[0].label == "a"
    assert not whole.missing(np.arange(8)), "they were decoded together"
    monkeypatch.setattr(trainer.cores, "num_cores", lambda: 1)
    monkeypatch.setattr(trainer.image_shards, "RUN_AHEAD", 1)
    for n in (0, 1, 2, 4, 6, 7):
        assert np.array_equal(whole[n].pixels, one_by_one[n].pixels)
    for each in (whole, one_by_one):
        for n in (3, 5):
            with pytest.raises(BadExample, match=rf"{n}\.{suffix}"):
                each[n]
