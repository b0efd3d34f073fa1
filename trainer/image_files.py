"""Pixels out of image files: what may be one, and how it is brought to the size and the channels wanted."""

import io
import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from trainer.errors import BadExample

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 2**26
UNDECODABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for bytes that are no whole image."""


def decoded(source: BinaryIO, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The image in an open file: uint8 of `shape` (H, W, C); BadExample, with `name`, where it is none."""
    try:
        return _fitted(Image.open(source, formats=FORMATS), shape)
    except UnidentifiedImageError as error:  # its text holds an address in memory
        raise BadExample(f"{name}: is no PNG, JPEG or WebP image") from error
    except UNDECODABLE as error:
        raise BadExample(f"{name}: cannot be decoded: {error}") from error


def num_pixels(content: memoryview) -> int:
    """How many pixels an image says it has; 0 when it is none."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UNDECODABLE:
        return 0
    return image.width * image.height


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
