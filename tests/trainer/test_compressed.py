"""Compressed shards come out as they went in, or not at all."""

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from trainer.compressed import SUFFIXES, open_shard

CONTENT = b"first line\n" + os.urandom(300_000) + b"\nlast line"
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
suffixes = pytest.mark.parametrize("suffix", SUFFIXES)


def test_every_suffix_is_tested() -> None:
    assert set(SUFFIXES) == set(COMPRESSORS) - {""}


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_content_comes_out(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"s3:#1?.txt{suffix}"
    path.write_bytes(COMPRESSORS[suffix](CONTENT))
    with open_shard(path) as stream:
        assert stream.readline() == b"first line\n"
        assert stream.read() == CONTENT[11:]


@suffixes
def test_pieces_that_were_compressed_one_by_one(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(COMPRESSORS[suffix](b"one\n") + COMPRESSORS[suffix](b"two\n"))
    with open_shard(path) as stream:
        assert list(stream) == [b"one\n", b"two\n"]


@suffixes
@pytest.mark.parametrize("cut", [1, 4, 100, 200_000])
def test_cut_short(suffix: str, cut: int, tmp_path: Path) -> None:
    path = tmp_path / f"shard{suffix}"
    path.write_bytes(COMPRESSORS[suffix](CONTENT)[:-cut])
    with open_shard(path) as stream, pytest.raises(ValueError, match="damaged"):
        stream.read()


@suffixes
def test_a_flipped_bit(suffix: str, tmp_path: Path) -> None:
    data = bytearray(COMPRESSORS[suffix](CONTENT))
    data[len(data) // 2] ^= 16
    path = tmp_path / f"shard{suffix}"
    path.write_bytes(data)
    with open_shard(path) as stream, pytest.raises(ValueError, match="damaged"):
        stream.read()


@suffixes
def test_not_compressed_at_all(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"shard{suffix}"
    path.write_bytes(b"plain text")
    with open_shard(path) as stream, pytest.raises(ValueError, match="damaged"):
        stream.read()


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_bomb_is_stopped(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(COMPRESSORS[suffix](bytes(5_000_000)))
    with (
        open_shard(path, max_bytes=2_000_000) as stream,
        pytest.raises(ValueError, match="larger than --max_shard_bytes 2,000,000 allow"),
    ):
        while stream.read(2**16):
            pass


def test_as_large_as_allowed(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(CONTENT)
    with open_shard(path, max_bytes=len(CONTENT)) as stream:
        assert stream.read() == CONTENT


def test_an_error_of_the_disk_stays_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_shard(tmp_path / "missing.gz"):
        pass
