"""Images with labels out of tar shards, decoded when first asked for."""

import io
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.arrays import spilled
from trainer.cores import on_all_cores
from trainer.errors import BadExample
from trainer.image_files import decoded, num_pixels
from trainer.image_members import IMAGE_SUFFIXES, LABEL_SUFFIXES, is_example, label_of, member, member_name
from trainer.plain_png import is_plain, plain_pngs
from trainer.webdataset import Group

LARGE_PIXELS = 2**12
"""Images of fewer pixels are not decoded in threads, unless many are at once (`trainer.plain_png`): of the time that
one of them takes most is Python's, where threads wait for each other."""
MIN_PIECE, MAX_PIECE = 4, 32
"""Examples that one thread takes at a time."""
RUN_AHEAD = 64


class Example(NamedTuple):
    """One decoded image: uint8 of shape (H, W, C), and the name of its label."""

    pixels: np.ndarray
    label: str


class Gathered(Sequence[Example]):
    """Examples side by side: `pixels` uint8 of shape (n, H, W, C), `labels` str objects of shape (n,)."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels, self.labels = pixels, labels

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Gathered":
        """Those of any sequence."""
        if isinstance(examples, cls):
            return examples
        pixels = np.stack([example.pixels for example in examples])
        return cls(pixels, np.array([example.label for example in examples], dtype=object))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Gathered(self.pixels[index], self.labels[index])
        return Example(self.pixels[index], self.labels[index])


class TarImages(Sequence[Example]):
    """The examples of one tar. Each is decoded when first asked for; after that an index costs next to nothing.

    Indexing one that cannot be used raises BadExample, each time. `pixels` and `labels`, as in Gathered, are those of
    the examples decoded so far; once all are, the members' bytes are given up.
    """

    def __init__(self, groups: Sequence[Group], image_size: int, channels: int) -> None:
        self._groups: list[Group] | None = [group for group in groups if is_example(group)]
        self.pixels = np.empty((len(self._groups), image_size, image_size, channels), np.uint8)
        self.labels = np.empty(len(self._groups), object)
        self._is_done = np.zeros(len(self._groups), bool)
        self._bad: dict[int, str] = {}
        self._member_bytes = sum(group.num_bytes for group in self._groups)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory: pixels, and members as long as they are needed."""
        return self.pixels.nbytes * (not isinstance(self.pixels, np.memmap)) + self._member_bytes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        if not self._is_done[index]:
            _decode_all(self.missing(np.arange(index, min(index + RUN_AHEAD, len(self)))))
        if index in self._bad:
            raise BadExample(self._bad[index])
        return Example(self.pixels[index], self.labels[index])

    def spill(self, folder: Path) -> int:
        """Move the pixels into a nameless file in `folder`; the bytes it takes, 0 when not all is decoded yet.

        OSError when they do not fit there; then all is as it was.
        """
        if self._groups is not None or isinstance(self.pixels, np.memmap) or not self.pixels.nbytes:
            return 0
        self.pixels = spilled(self.pixels, folder)
        return self.pixels.nbytes

    @cached_property
    def gains_by_threads(self) -> bool:
        """Whether its images are large or plain, by the first: those of a shard are mostly alike."""
        members = (item for group in self._groups or () for item in group.members.items())
        first = next((content for suffix, content in members if suffix in IMAGE_SUFFIXES), memoryview(b""))
        return is_plain(first, self.pixels.shape[1:]) or num_pixels(first) >= LARGE_PIXELS

    def missing(self, indices: np.ndarray) -> list["Undecoded"]:
        """Those of these examples that are not decoded yet."""
        groups = self._groups
        if groups is None:
            return []
        return [Undecoded(self, index, groups[index]) for index in indices[~self._is_done[indices]].tolist()]

    def check(self, indices: np.ndarray) -> None:
        """BadExample when one of these decoded examples cannot be used."""
        for index in indices.tolist() if self._bad else ():
            self[index]

    def fill(self, index: int, pixels: np.ndarray, label: str) -> None:
        """Take over one decoded example. Threads may do so twice: it comes out alike."""
        self.pixels[index], self.labels[index] = pixels, label
        self._is_done[index] = True

    def refuse(self, index: int, why: str) -> None:
        """Take over why one cannot be used."""
        self._bad[index] = why
        self._is_done[index] = True

    def settle(self) -> None:
        """Give the members' bytes up once all is decoded."""
        if self._is_done.all():
            self._groups, self._member_bytes = None, 0


class Undecoded(NamedTuple):
    """One example that is to be decoded, and where it goes."""

    shard: TarImages
    place: int
    group: Group


def decode(shards: Sequence[TarImages], which: np.ndarray, indices: np.ndarray) -> None:
    """See that the examples `indices[i]` of `shards[which[i]]` are decoded; BadExample when one cannot be used."""
    asked = [(shard, indices[which == number]) for number, shard in enumerate(shards)]
    _decode_all([one for shard, of_shard in asked for one in shard.missing(of_shard)])
    for shard, of_shard in asked:
        shard.check(of_shard)


def _decode_all(missing: Sequence[Undecoded]) -> None:
    """Decode some examples, in threads where that pays, or note why they cannot be used."""
    _decode_piece([one for one in missing if not one.shard.gains_by_threads])
    on_all_cores(_decode_piece, [one for one in missing if one.shard.gains_by_threads], MIN_PIECE, MAX_PIECE)
    for shard in {one.shard for one in missing}:
        shard.settle()


def _decode_piece(piece: Sequence[Undecoded]) -> None:
    """Decode some examples, or note why they cannot be used."""
    known = [(one, *found) for one in piece if (found := _usable(one)) is not None]
    contents = [one.group.members[image] for one, image, _ in known]
    plain = plain_pngs(contents, piece[0].shard.pixels.shape[1:]) if piece else {}
    for place, (one, image, label) in enumerate(known):
        try:
            pixels = plain[place] if place in plain else _pixels(one, image)
        except BadExample as error:
            one.shard.refuse(one.place, str(error))
        else:
            one.shard.fill(one.place, pixels, label)


def _usable(one: Undecoded) -> tuple[str, str] | None:
    """The suffix of the image, and the label; None when the members make no example, which is noted."""
    try:
        image, label = member(one.group, IMAGE_SUFFIXES, "image"), member(one.group, LABEL_SUFFIXES, "label")
        return image, sys.intern(label_of(one.group, label))
    except BadExample as error:
        one.shard.refuse(one.place, str(error))
        return None


def _pixels(one: Undecoded, suffix: str) -> np.ndarray:
    content = io.BytesIO(one.group.members[suffix])
    return decoded(content, member_name(one.group, suffix), one.shard.pixels.shape[1:])
