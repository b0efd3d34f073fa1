"""Archives of plain files read without tarfile: what tarfile finds there, or nothing at all."""

import io
import tarfile
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainer.plain_tar import plain_files

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=120)
plain_names = st.text("ab/._-", min_size=1, max_size=130)
members = st.lists(
    st.tuples(
        st.one_of(plain_names, names),
        st.binary(max_size=1100),
        st.one_of(st.integers(0, 2**33), st.floats(0, 2e9)),
        st.sampled_from([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.AREGTYPE]),
    ),
    max_size=6,
)


def written(content: Any, form: int) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=form) as tar:
        for name, data, mtime, kind in content:
            info = tarfile.TarInfo(name)
            info.mtime, info.type, info.size = mtime, kind, len(data) * (kind in tarfile.REGULAR_TYPES)
            info.linkname = "elsewhere" * (kind == tarfile.SYMTYPE)
            tar.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def by_tarfile(archive: bytes) -> tuple[list[tuple[str, int, int]], int]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        files = [(one.name, one.offset_data, one.size) for one in tar.getmembers() if one.isfile()]
        return files, tar.offset


@given(members, st.sampled_from(FORMATS))
def test_it_finds_what_tarfile_finds_or_leaves_it_to_that(content, form):
    try:
        archive = written(content, form)
    except (ValueError, UnicodeError):  # names and times that the form cannot hold
        return
    found = plain_files(memoryview(archive))
    if found is not None:
        assert (found.files, found.end) == by_tarfile(archive)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mtime", [0, 1.5])
def test_ordinary_archives_are_read(form, mtime):
    kind = tarfile.REGTYPE
    content = [("a/1.png", b"x" * 700, mtime, kind), ("a", b"", 0, tarfile.DIRTYPE), ("a/1.cls", b"cat", mtime, kind)]
    content.append(("b" * 60 + "/" + "c" * 60, b"", 0, kind))
    found = plain_files(memoryview(written(content, form)))
    assert (found is None) == (form != tarfile.USTAR_FORMAT), "a long name is plain in one form only"
    found = plain_files(memoryview(written(content[:3], form)))
    assert found is not None
    assert [(name, size) for name, _, size in found.files] == [("a/1.png", 700), ("a/1.cls", 3)]


@given(st.lists(st.tuples(st.integers(0, 3071), st.integers(0, 255)), min_size=1, max_size=3), st.sampled_from(FORMATS))
@example([(0, 0)], tarfile.USTAR_FORMAT)
def test_damage_is_never_read_in_another_way_than_tarfile_would(changes, form):
    archive = bytearray(
        written([("a.png", b"x" * 700, 1.5, tarfile.REGTYPE), ("b.cls", b"y", 0, tarfile.REGTYPE)], form)
    )
    for place, value in changes:
        archive[place] = value
    found = plain_files(memoryview(bytes(archive)))
    if found is not None:
        assert (found.files, found.end) == by_tarfile(bytes(archive))


def test_an_archive_without_its_end_is_left_to_tarfile():
    archive = written([("a.png", b"x" * 700, 0, tarfile.REGTYPE)], tarfile.USTAR_FORMAT)
    assert plain_files(memoryview(archive)) is not None
    for length in (0, 100, 512, 1000, 1536):
        assert plain_files(memoryview(archive)[:length]) is None
