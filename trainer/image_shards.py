"""Images with labels out of tar shards: which members make an example, and what is wrong where they do not."""

import io
import json
import os
import re
import struct
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from trainer.arrays import spilled
from trainer.errors import BadExample
from trainer.webdataset import Group

IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")
LABEL_SUFFIXES = ("cls", "json")
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 2**26
MAX_LABEL_BYTES = 2**20
LARGE_BYTES = 2**14
"""Examples of more bytes on average are decoded in threads. Of small ones most time is Python's, where threads wait
for each other; worker processes would take longer to start than to decode what fits into memory."""
RUN_AHEAD = 64
CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
UNDECODABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for bytes that are no whole image."""


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
        self._groups: list[Group] | None = [group for group in groups if _is_example(group)]
        self.pixels = np.empty((len(self._groups), image_size, image_size, channels), np.uint8)
        self.labels = np.empty(len(self._groups), object)
        self._is_done = np.zeros(len(self._groups), bool)
        self._bad: dict[int, str] = {}
        self._member_bytes = sum(group.num_bytes for group in self._groups)
        self._are_large = self._member_bytes > LARGE_BYTES * len(self._groups)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory: pixels, and members as long as they are needed."""
        return self.pixels.nbytes * (not isinstance(self.pixels, np.memmap)) + self._member_bytes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        if not self._is_done[index]:
            ahead = RUN_AHEAD if self._are_large else 1
            self._decode_all(np.arange(index, min(index + ahead, len(self))))
        if index in self._bad:
            raise BadExample(self._bad[index])
        return Example(self.pixels[index], self.labels[index])

    def decode(self, indices: np.ndarray) -> None:
        """See that all of these are decoded; BadExample when one cannot be used."""
        self._decode_all(indices)
        for index in indices.tolist() if self._bad else ():
            self[index]

    def spill(self, folder: Path) -> int:
        """Move the pixels into a nameless file in `folder`; the bytes it takes, 0 when not all is decoded yet.

        OSError when they do not fit there; then all is as it was.
        """
        if self._groups is not None or isinstance(self.pixels, np.memmap) or not self.pixels.nbytes:
            return 0
        self.pixels = spilled(self.pixels, folder)
        return self.pixels.nbytes

    def _decode_all(self, indices: np.ndarray) -> None:
        """Decode those that are not decoded yet, large ones in threads: of these most time is Pillow's own."""
        groups, missing = self._groups, indices[~self._is_done[indices]].tolist()
        if groups is None or not missing:
            return
        if self._are_large and len(missing) > 1:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(lambda index: self._decode(index, groups[index]), missing))
        else:
            for index in missing:
                self._decode(index, groups[index])
        if self._is_done.all():
            self._groups, self._member_bytes = None, 0

    def _decode(self, index: int, group: Group) -> None:
        """Fill in one example, or why it cannot be used. Threads may do so twice: it comes out alike."""
        try:
            self._fill(index, group)
        except BadExample as error:
            self._bad[index] = str(error)
        self._is_done[index] = True

    def _fill(self, index: int, group: Group) -> None:
        image, label = _member(group, IMAGE_SUFFIXES, "image"), _member(group, LABEL_SUFFIXES, "label")
        self.labels[index] = sys.intern(_label(group, label))
        self.pixels[index] = _pixels(group, image, self.pixels.shape[1:])


def _is_example(group: Group) -> bool:
    """Whether any member looks like a part of one, so that `cat.v2.png` is found bad rather than passed over."""
    return any(suffix.rpartition(".")[2] in IMAGE_SUFFIXES + LABEL_SUFFIXES for suffix in group.members)


def _member(group: Group, suffixes: Sequence[str], what: str) -> str:
    """The suffix of the group's image or label, the first of `suffixes` that it has."""
    found = [suffix for suffix in suffixes if suffix in group.members]
    if not found:
        others = ", ".join(_name(group, suffix) for suffix in group.members)
        raise BadExample(f"{others}: no {what} beside it; expected {_name(group, ' or .'.join(suffixes))}")
    if found[0] in group.repeated:
        raise BadExample(f"{_name(group, found[0])}: is in the tar more than once")
    return found[0]


def _name(group: Group, suffix: str) -> str:
    """A member's name for messages, quoted: a tar may call it anything."""
    return repr(f"{group.key}.{suffix}")


def _label(group: Group, suffix: str) -> str:
    """The name of the label, one line of text."""
    content = bytes(group.members[suffix][: MAX_LABEL_BYTES + 1])
    try:
        label = _label_text(content, suffix).strip()
    except (ValueError, RecursionError) as error:
        raise BadExample(f"{_name(group, suffix)}: is no label: {error}") from error
    if not label or CONTROL.search(label):
        raise BadExample(f"{_name(group, suffix)}: a label must be one line of text")
    return label


def _label_text(content: bytes, suffix: str) -> str:
    if len(content) > MAX_LABEL_BYTES:
        raise ValueError(f"it is larger than {MAX_LABEL_BYTES} bytes")
    text = content.decode("utf-8-sig")
    if suffix == "cls":
        return text
    fields = json.loads(text)
    label = fields.get("label", fields.get("cls")) if isinstance(fields, dict) else None
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise ValueError('it has neither "label" nor "cls" with a name or an integer')
    return str(label)


def _pixels(group: Group, suffix: str, shape: tuple[int, ...]) -> np.ndarray:
    return decoded(io.BytesIO(group.members[suffix]), _name(group, suffix), shape)


def decoded(source: BinaryIO, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The image in an open file: uint8 of `shape` (H, W, C); BadExample, with `name`, where it is none."""
    try:
        return _fitted(Image.open(source, formats=FORMATS), shape)
    except UnidentifiedImageError as error:  # its text holds an address in memory
        raise BadExample(f"{name}: is no PNG, JPEG or WebP image") from error
    except UNDECODABLE as error:
        raise BadExample(f"{name}: cannot be decoded: {error}") from error


def _fitted(image: Image.Image, shape: tuple[int, ...]) -> np.ndarray:
    height, width, channels = shape
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS} in all")
    image.draft(None, (2 * width, 2 * height))  # a JPEG far too large is decoded at a half, quarter or eighth
    fitted, mode = _eight_bits(image), "L" if channels == 1 else "RGB"
    if fitted.mode != mode:
        fitted = fitted.convert(mode)
    if fitted.size != (width, height):
        fitted = fitted.resize((width, height), Image.Resampling.BILINEAR)
    return np.frombuffer(fitted.tobytes(), np.uint8).reshape(shape)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow cuts 16-bit grey off at 255 when it converts; keep its upper half instead."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
