"""Random changes of images, drawn from one seed per example: the same in every attempt, whatever the batch."""

import numpy as np

from trainer.draw import draws, stream

SHIFT_DOWN, SHIFT_RIGHT, FLIP = (stream(0, purpose) for purpose in ("shift down", "shift right", "flip"))


def shift(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Images (n, H, W, C), each moved by up to an eighth of its size, down and right; the border is repeated.

    For 32x32 images that is the crop from a border of 4 pixels of He et al. (2015, section 4.2).
    """
    height, width = images.shape[1:3]
    rows = _moved(height, SHIFT_DOWN, seeds)
    columns = _moved(width, SHIFT_RIGHT, seeds)
    moved: np.ndarray = images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


def flip(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Images (n, H, W, C), every second one or so mirrored left to right."""
    mirrored = _below(2, FLIP, seeds).astype(bool)
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def _moved(length: int, key: int, seeds: np.ndarray) -> np.ndarray:
    """For each image, which of its `length` lines goes to each place: (n, length)."""
    most = max(1, length // 8)
    offsets = _below(2 * most + 1, key, seeds) - most
    moved: np.ndarray = (np.arange(length) + offsets[:, None]).clip(0, length - 1)
    return moved


def _below(limit: int, key: int, seeds: np.ndarray) -> np.ndarray:
    """One integer from 0 to limit - 1 per seed: int64 of shape (n,)."""
    return (draws(key, seeds) % np.uint64(limit)).astype(np.int64)
