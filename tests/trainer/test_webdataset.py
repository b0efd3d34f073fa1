"""Tars in the WebDataset convention: what belongs together, and archives that are not whole."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.tars import Member, write_tar
from trainer.webdataset import read_groups

MEMBERS: list[Member] = [
    ("a/0001.png", b"one"),
    ("b/0001.png", b"two" * 400),
    ("a/0001.cls", b"1"),
    ("v1.0/0002.seg.PNG", b""),
]


def groups(path: Path) -> dict[str, dict[str, bytes]]:
    return {group.key: {name: bytes(data) for name, data in group.members.items()} for group in read_groups(path)}


@pytest.mark.parametrize(("suffix", "mode"), [("", "w"), (".gz", "w:gz"), (".bz2", "w:bz2"), (".xz", "w:xz")])
def test_members_are_grouped_by_key_in_order(suffix: str, mode: str, tmp_path: Path) -> None:
    found = groups(write_tar(tmp_path / f"x.tar{suffix}", MEMBERS, mode))
    assert found == {
        "a/0001": {"png": b"one", "cls": b"1"},
        "b/0001": {"png": b"two" * 400},
        "v1.0/0002": {"seg.png": b""},
    }
    assert list(found) == ["a/0001", "b/0001", "v1.0/0002"]


NAMES = st.text(st.characters(exclude_characters="/.\0", exclude_categories=["Cs"]), min_size=1, max_size=120)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_any_name_and_content(tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], form: int) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(f"{name}.bin")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert groups(path) == {name: {"bin": data} for name, data in contents.items()}


def test_an_empty_archive_is_a_whole_one(tmp_path: Path) -> None:
    assert read_groups(write_tar(tmp_path / "x.tar", [])) == []


def test_what_is_no_file_or_has_no_key_is_passed_over(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [(".DS_Store", b""), ("a/._0001.png", b""), ("README", b"")])
    with tarfile.open(path, "a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("0001.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert read_groups(path) == []


def test_a_leading_dot_slash_is_no_part_of_the_key(tmp_path: Path) -> None:
    assert groups(write_tar(tmp_path / "x.tar", [("./1.png", b"x"), ("1.cls", b"y")])) == {
        "1": {"png": b"x", "cls": b"y"}
    }


def test_a_member_that_occurs_twice_is_said(tmp_path: Path) -> None:
    (group,) = read_groups(write_tar(tmp_path / "x.tar", [("1.png", b"x"), ("1.cls", b"y"), ("1.PNG", b"z")]))
    assert group.repeated == ["png"]


def test_cut_anywhere_is_never_taken_for_whole(tmp_path: Path) -> None:
    """Every cut that loses a byte of a member, or the mark that says there are no more."""
    whole = write_tar(tmp_path / "x.tar", MEMBERS).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in tar)
    cut = tmp_path / "cut.tar"
    for length in [*range(0, end, 100), *range(512, end + 512, 512), end + 511]:
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="tar"):
            read_groups(cut)
    cut.write_bytes(whole[: end + 512])
    assert groups(cut) == groups(tmp_path / "x.tar")


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>" * 1000, bytes(1023)[:100], b"\x1f\x8b" * 600])
def test_no_tar_at_all(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no whole tar"):
        read_groups(path)


def test_two_archives_in_one_file_are_refused_rather_than_half_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", MEMBERS)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match="neither a member nor the end mark"):
        read_groups(path)


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", MEMBERS)
    data = bytearray(path.read_bytes())
    data[1024 + 10] ^= 1  # in the name of the second member, which its check sum covers
    path.write_bytes(data)
    with pytest.raises(ValueError, match="at byte 1024"):
        read_groups(path)


@pytest.mark.parametrize("size", ["-1024", str(10**30), str(2**40)])
def test_impossible_sizes(size: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("1.png")
        info.pax_headers = {"size": size}
        tar.addfile(info)
    with pytest.raises(ValueError, match="no whole tar"):
        read_groups(path)


SPARSE = {
    "0.1": {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,1,99999999,1",
        "GNU.sparse.size": "100000000",
    },
    "1.0": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100000000"},
}


@pytest.mark.parametrize("form", [*SPARSE, "old GNU"])
def test_a_sparse_member_is_refused(form: str, tmp_path: Path) -> None:
    """A few bytes could stand for petabytes."""
    path = tmp_path / "x.tar"
    content = b"1\n0\n2\n".ljust(512, b"\0")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("1.png")
        info.pax_headers = SPARSE.get(form, {})
        info.type = tarfile.REGTYPE if form in SPARSE else tarfile.GNUTYPE_SPARSE
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match="sparse"):
        read_groups(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_a_value_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    content = bytearray(write_tar(path, [*MEMBERS, ("é" * 90 + "/1.png", b"x" * 90)]).read_bytes())
    for place in data.draw(st.lists(st.integers(0, 7000), min_size=1, max_size=20)):
        content[place] = data.draw(st.sampled_from(list(b"\x00\xff\x8009x-")))
    path.write_bytes(content)
    try:
        read_groups(path)
    except ValueError as error:
        assert "\n" not in str(error)
