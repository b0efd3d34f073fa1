"""URLs: which store they name, how they are joined and compared, and what is wrong with the others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.errors import UrlError
from cloud.open import StoreOptions, join_url, open_store, overlap
from cloud.urls import without_credentials


def test_a_path_and_its_file_url_are_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("./a folder", writable=True).put("x", b"content")
    for url in (
        f"file://{tmp_path}/a folder/",
        f"file://localhost{tmp_path}/a%20folder",
        "a folder",
        str(tmp_path / "a folder"),
    ):
        assert open_store(url).read("x") == b"content"


def test_memory_is_one_place_per_name() -> None:
    open_store("memory://open-a/x").put("k", b"1")
    assert open_store("memory://open-a").read("x/k") == b"1"
    assert list(open_store("memory://open-b/x").list()) == []


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "no URL and no path"),
        ("a\nb", "no URL and no path"),
        ("file://data/x", "three slashes"),
        ("s3://", "names no bucket; write s3://BUCKET/FOLDER/"),
        ("s3:///folder", "names no bucket"),
        ("s3://bucket/a/../b", "cannot be a key"),
        ("s3:/bucket/run", "no URL: write SCHEME://..., or ./s3:/bucket/run if it is the name of a folder"),
        ("S3:bucket", "no URL: write SCHEME"),
        (" s3://bucket/run", "no URL: write SCHEME"),
        ("~/run", "write the whole path"),
        ("nonsense://x", "nonsense://x: no store is known for such URLs"),
    ],
)
def test_what_is_wrong_with_a_url(url: str, text: str) -> None:
    with pytest.raises(UrlError, match=text):
        open_store(url)


@pytest.mark.parametrize("url", ["s3://user:secret@bucket/x", "gs://user:secret@bucket", "sftp://user:secret@host/x"])
def test_credentials_in_a_url_are_not_repeated(url: str) -> None:
    with pytest.raises(UrlError) as caught:
        open_store(url, StoreOptions(), writable=True)
    assert "secret" not in str(caught.value)
    assert str(caught.value).startswith(url.replace("user:secret@", ""))


def test_what_only_fsspec_knows_can_only_be_read() -> None:
    with pytest.raises(UrlError, match="can only be read; write to a folder, s3, obs, gs or az"):
        open_store("hdfs://host/run", writable=True)


WITHOUT_FSSPEC = """
import sys
sys.modules["fsspec"] = None
from cloud.errors import UrlError
from cloud.open import open_store
try:
    open_store("sftp://host/data")
except UrlError as error:
    print(error)
"""


def test_without_fsspec_its_package_is_named() -> None:
    command = [sys.executable, "-c", WITHOUT_FSSPEC]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}, check=True)
    assert result.stdout == "sftp://host/data: URLs of this kind need fsspec; install perdure[fsspec]\n"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("s3://b/data", "s3://b/data/", True),
        ("s3://b/data", "s3://b/data/run", True),
        ("s3://b/data", "s3://b/data-2", False),
        ("s3://b", "s3://b/x/y", True),
        ("s3://b/x", "s3://c/x", False),
        ("s3://b/x", "gs://b/x", False),
        ("S3://b/x", "s3://b/x", True),
        ("./data", "data/../data/run", True),
        ("data", "data2", False),
        ("file:///data", "/data/x", True),
        ("/", "relative", True),
    ],
)
def test_overlap(a: str, b: str, expected: bool) -> None:
    assert overlap(a, b) is expected
    assert overlap(b, a) is expected


def test_overlap_sees_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert overlap(str(tmp_path / "link"), str(tmp_path / "real" / "run"))


@pytest.mark.parametrize(
    ("url", "parts", "expected"),
    [
        ("./data", ["eval"], "./data/eval"),
        ("s3://b/data/", ["eval/", "x.tar"], "s3://b/data/eval/x.tar"),
        ("s3://b", ["x"], "s3://b/x"),
        ("/", ["x"], "/x"),
        ("data", [], "data"),
    ],
)
def test_join_url(url: str, parts: list[str], expected: str) -> None:
    assert join_url(url, *parts) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:p@ss@host/x", "https://host/x"),
        ("https://host/x?sig=SECRET#a", "https://host/x"),
        ("https://me:word@host?sig=a@b", "https://host"),
        ("zip://x::sftp://me:word@host/a@b", "zip://x::sftp://host/a@b"),
        ("https://host/me@x", "https://host/me@x"),
        ("./what?", "./what?"),
    ],
)
def test_credentials_are_not_shown(url: str, expected: str) -> None:
    assert without_credentials(url) == expected
