"""Tar shards in the WebDataset convention: the members that share a key are one example.

The key of `cats/0001.seg.png` is `cats/0001`: all before the first dot of the base name; `seg.png` is its suffix.
Members are read in memory and never extracted; links, devices and folders are passed over.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.compressed import BUFFER_BYTES, MAX_BYTES, open_shard
from trainer.plain_tar import plain_files

DAMAGED = (tarfile.TarError, ValueError, OverflowError, RecursionError, IndexError)
"""What tarfile raises for hostile bytes."""


@dataclass(slots=True)
class Group:
    """The members of one key: content by suffix, in lower case. `repeated` are suffixes that occur more than once."""

    key: str
    members: dict[str, memoryview] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """Bytes of all members."""
        return sum(map(len, self.members.values()))


def read_groups(path: Path, max_bytes: int = MAX_BYTES) -> list[Group]:
    """The groups of a tar, plain or compressed, in the order of their first members, with all content in memory.

    Raises ValueError when it is no tar, one that is cut short or damaged, or one of more than `max_bytes`.
    """
    archive = _load(path, max_bytes)
    content = archive.getbuffer()
    groups: dict[str, Group] = {}
    for name, start, size in _files(archive, len(content)):
        directory, slash, base = name.removeprefix("./").rpartition("/")
        stem, _, suffix = base.partition(".")
        if stem and suffix:
            key = directory + slash + stem
            _add(groups.setdefault(key, Group(key)), suffix.lower(), content[start : start + size])
    _check_end(content, archive.tell())
    return list(groups.values())


def _load(path: Path, max_bytes: int) -> io.BytesIO:
    """All bytes, to the end even behind the archive: a compressed file's check sum is the last thing in it."""
    archive = io.BytesIO()
    with open_shard(path, max_bytes) as stream:
        while chunk := stream.read(BUFFER_BYTES):
            archive.write(chunk)
    archive.seek(0)
    return archive


def _add(group: Group, suffix: str, content: memoryview) -> None:
    if suffix in group.members:
        group.repeated.append(suffix)
    group.members[suffix] = content


def _files(archive: io.BytesIO, num_bytes: int) -> Iterator[tuple[str, int, int]]:
    """Name, start and size of every regular file; then the archive stands where no further header was seen."""
    plain = plain_files(archive.getbuffer())
    if plain is not None:
        archive.seek(plain.end)
        return iter(plain.files)
    return _any_files(archive, num_bytes)


def _any_files(archive: io.BytesIO, num_bytes: int) -> Iterator[tuple[str, int, int]]:
    """The same for whatever tarfile can read, or says is wrong; it takes ten times as long."""
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            end = 0
            while (member := tar.next()) is not None:
                end = _end(member, end, num_bytes)
                if member.isfile():
                    yield member.name, member.offset_data, member.size
            archive.seek(tar.offset)
    except DAMAGED as error:
        raise ValueError(f"it is no whole tar: {error}") from error


def _end(member: tarfile.TarInfo, previous: int, num_bytes: int) -> int:
    """Where a member's content ends: behind the one before it (sizes can be negative) and within the archive."""
    if member.issparse():
        raise ValueError(f"member {member.name!r} is sparse; pack it without --sparse")
    if member.size < 0 or member.offset_data <= previous:
        raise ValueError(f"the header of member {member.name!r} is damaged")
    end = member.offset_data + (member.size if member.isfile() else 0)
    if end > num_bytes:
        raise ValueError(f"it is cut short within member {member.name!r}")
    return end


def _check_end(content: memoryview, offset: int) -> None:
    """tarfile takes whatever is no header for the end. The end is a block of zeros, and only zeros follow it."""
    rest = bytes(content[offset:])
    if len(rest) < tarfile.BLOCKSIZE:
        raise ValueError(f"it is no whole tar: cut short at byte {offset}, before its end mark")
    if rest.count(0) < len(rest):
        raise ValueError(f"it is no whole tar: neither a member nor the end mark at byte {offset}")
