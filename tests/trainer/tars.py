"""Real tar shards for tests."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

Member = tuple[str, bytes]


def write_tar(path: Path, members: Iterable[Member], mode: str = "w") -> Path:
    """A tar of these members, in this order; `mode` as tarfile's, e.g. "w:gz"."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def encode(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """Pixels (H, W) or (H, W, 3), uint8, as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def example(key: str, label: str, seed: int = 0, size: int = 8) -> list[Member]:
    """A grey random image with its label."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    return [(f"{key}.png", encode(pixels)), (f"{key}.cls", label.encode())]
