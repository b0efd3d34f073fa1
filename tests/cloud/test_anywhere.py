"""Places that fsspec reads: a folder and a zip file through it."""

import zipfile
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from cloud.errors import NoSuchBucket, UrlError
from cloud.open import open_store
from cloud.store import Store

CONTENT = {"a-b": b"1", "a/b.txt": b"0123456789", "z/ü": b"", "ab": b"3"}


@pytest.fixture(params=["local", "zip"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        writing = open_store(str(tmp_path / "data"), writable=True)
        for key, data in CONTENT.items():
            writing.put(key, data)
        return open_store(f"local://{tmp_path}/data")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for key, data in CONTENT.items():
            archive.writestr(f"data/{key}", data)
    return open_store(f"zip://data::{tmp_path}/data.zip")


def test_listing(store: Store) -> None:
    listed = [entry for entry in store.list() if not entry.key.startswith(".partial")]
    assert [(entry.key, entry.size) for entry in listed] == [(key, len(CONTENT[key])) for key in sorted(CONTENT)]
    assert [entry.key for entry in store.list("a")] == ["a-b", "a/b.txt", "ab"]
    assert [entry.key for entry in store.list("a/")] == ["a/b.txt"]
    assert [entry.key for entry in store.list("a", "a-b")] == ["a/b.txt", "ab"]


def test_reading(store: Store) -> None:
    assert store.stat("a/b.txt").size == 10
    for start, end, expected in ((0, None, b"0123456789"), (3, 5, b"34"), (8, 99, b"89"), (10, 12, b""), (4, 4, b"")):
        assert store.read("a/b.txt", start, end) == expected
    for key in ("missing", "a", "a/b.txt.gz"):
        with pytest.raises(FileNotFoundError, match=key):
            store.read(key)
        with pytest.raises(FileNotFoundError, match=key):
            store.stat(key)


def test_nothing_can_be_written(store: Store) -> None:
    for write in (
        lambda: store.put("a", b""), lambda: store.create("a", b""), lambda: store.delete("a-b"),
        lambda: store.writer("a").__enter__(),
    ):  # fmt: skip
        with pytest.raises(UrlError, match="can only be read"):
            write()
    assert not store.can_create
    assert store.read("a-b") == b"1"


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(NoSuchBucket, match="no such folder; mend the URL"):
        list(open_store(f"local://{tmp_path}/missing").list())


def test_a_missing_package_is_named() -> None:
    with pytest.raises(UrlError, match=r'sftp://host/x: .*"paramiko"'):
        open_store("sftp://user:secret@host/x")


class Remembering(LocalFileSystem):
    """Lists a folder once, as fsspec's file systems do whose server is far away."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("remembering://"))

    def ls(self, path, detail=False, **kwargs):
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True)
        return self.dircache[path] if detail else [info["name"] for info in self.dircache[path]]

    def invalidate_cache(self, path=None) -> None:
        self.dircache.clear()


def test_what_arrives_later_is_listed(tmp_path: Path) -> None:
    fsspec.register_implementation("remembering", Remembering, clobber=True)
    store = open_store(f"remembering://{tmp_path}")
    (tmp_path / "a").touch()
    assert [entry.key for entry in store.list()] == ["a"]
    (tmp_path / "b").touch()
    assert [entry.key for entry in store.list()] == ["a", "b"]
