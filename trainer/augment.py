"""Random changes of images, drawn from one seed per example: the same in every attempt, whatever the batch."""

import numpy as np

from trainer.draw import draws, stream

SHIFT_DOWN, SHIFT_RIGHT, FLIP = (stream(0, purpose) for purpose in ("shift down", "shift right", "flip"))


def shift(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Images (n, H, W, C), each moved by up to an eighth of its size, up or down and left or right.

    The border is repeated. For 32x32 images that is the padding by 4 and random crop of He et al., "Deep Residual
    Learning" (2015, section 4.2), but for what the padding shows.
    """
    height, width = images.shape[1:3]
    down, right = max(1, height // 8), max(1, width // 8)
    padded = np.pad(images, ((0, 0), (down, down), (right, right), (0, 0)), mode="edge")
    crops = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    rows, columns = _below(2 * down + 1, SHIFT_DOWN, seeds), _below(2 * right + 1, SHIFT_RIGHT, seeds)
    chosen: np.ndarray = crops[np.arange(len(images)), rows, columns]
    return chosen.transpose(0, 2, 3, 1)


def flip(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Images (n, H, W, C), every second one or so mirrored left to right."""
    mirrored = _below(2, FLIP, seeds).astype(bool)
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def _below(limit: int, key: int, seeds: np.ndarray) -> np.ndarray:
    """One integer from 0 to limit - 1 per seed: int64 of shape (n,)."""
    return (draws(key, seeds) % np.uint64(limit)).astype(np.int64)
