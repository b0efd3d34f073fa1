"""Small PNG images of one plain form, many at a time: for each of them half of what Pillow takes for one alone.

Whatever is unusual or wrong is left to Pillow, so that only it says what a PNG may be. The form (W3C, "Portable
Network Graphics"): a signature, one IHDR, one IDAT, one IEND; 8 bits a channel, no palette, not interlaced.
"""

import struct
import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

MAX_BYTES = 2**14
"""Images of more bytes, decoded, gain nothing."""
KINDS = {1: ("L", 0), 3: ("RGB", 2)}
"""Pillow's mode and PNG's colour type, by the number of channels."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
START, LENGTH, KIND, DATA = slice(0, 33), slice(33, 37), slice(37, 41), slice(41, -16)
"""Where is what in such a file."""
END = b"\0\0\0\0IEND\xaeB`\x82"


def plain_pngs(contents: Sequence[memoryview], shape: tuple[int, ...]) -> dict[int, np.ndarray]:
    """The pixels, uint8 of `shape` (H, W, C), of those contents that are such images of this shape, by their place."""
    streams = {place: content[DATA] for place, content in enumerate(contents) if is_plain(content, shape)}
    inflated = {place: _inflated(stream, shape) for place, stream in streams.items()}
    rows = {place: found for place, found in inflated.items() if found is not None}
    return dict(zip(rows, _unfiltered(list(rows.values()), shape), strict=False))


def is_plain(content: memoryview, shape: tuple[int, ...]) -> bool:
    """Whether it begins and ends as such an image does."""
    head = bytes(content[: DATA.start])
    return (
        head[START] == _start(shape)
        and head[KIND] == b"IDAT"
        and int.from_bytes(head[LENGTH]) == len(content[DATA])
        and content[-len(END) :] == END
    )


@cache
def _start(shape: tuple[int, ...]) -> bytes:
    """All up to IDAT; nothing begins so where such images would be too large."""
    height, width, channels = shape
    fields = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, KINDS[channels][1], 0, 0, 0)
    start = SIGNATURE + struct.pack(">I", 13) + fields + struct.pack(">I", zlib.crc32(fields))
    return start if height * width * channels <= MAX_BYTES else b"too large"


def _inflated(stream: memoryview, shape: tuple[int, ...]) -> bytes | None:
    """The filtered rows, each behind the number of its filter; None when there is anything wrong with them."""
    height, width, channels = shape
    num_bytes = height * (1 + width * channels)
    inflate = zlib.decompressobj()
    try:
        rows = inflate.decompress(stream, num_bytes + 1)  # one more, or it would stop before the check sum
    except zlib.error:
        return None
    return rows if inflate.eof and len(rows) == num_bytes and not inflate.unused_data else None


def _unfiltered(images: Sequence[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels, uint8 of shape (n, H, W, C), by Pillow, to which all are one tall image; none when it refuses.

    Before each image comes a row of zeros: to a PNG's first row the row before is one.
    """
    height, width, channels = shape
    mode, zeros = KINDS[channels][0], bytes(1 + width * channels)
    tall = zlib.compress(zeros + zeros.join(images), level=0)
    try:
        image = Image.frombytes(mode, (width, (height + 1) * len(images)), tall, "zip", mode)
    except ValueError:
        return np.empty((0, *shape), np.uint8)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(len(images), height + 1, width, channels)[:, 1:]
