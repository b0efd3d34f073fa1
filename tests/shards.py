"""Real handwritten digits as .tar shards in the WebDataset convention, for the demo and for tests."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.trainer.tars import Member, encode
from tests.trainer.tars import write_tar as write_members


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 grey images, uint8 (n, 8, 8), and their labels, "0" to "9", (n,)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images * 255 / 16).astype(np.uint8), found.target.astype(str)


def write_tar(path: Path, images: Sequence[np.ndarray] | np.ndarray, labels: Sequence[str] | np.ndarray) -> Path:
    """A shard of 0001.png + 0001.cls, 0002.png + 0002.cls ...; the same bytes for the same images, always."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_members(path, _members(images, labels))


def _members(images: Sequence[np.ndarray] | np.ndarray, labels: Sequence[str] | np.ndarray) -> Iterator[Member]:
    for number, (image, label) in enumerate(zip(images, labels, strict=True), start=1):
        yield f"{number:04}.png", encode(image)
        yield f"{number:04}.cls", str(label).encode()
