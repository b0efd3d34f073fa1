"""Examples that are rows of arrays: many at once, without a line of Python for each."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WRITE_BYTES = 2**24


def gathered(arrays: Sequence[np.ndarray], which: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Row `indices[i]` of `arrays[which[i]]` for each i, all of one dtype and shape (..., *row): (n, *row)."""
    if len(arrays) == 1:
        return arrays[0].take(indices, axis=0)
    rows = np.empty((len(indices), *arrays[0].shape[1:]), arrays[0].dtype)
    for number, array in enumerate(arrays):
        here = np.flatnonzero(which == number)
        rows[here] = array.take(indices[here], axis=0)
    return rows


def spilled(array: np.ndarray, folder: Path) -> np.ndarray:
    """The same, read-only, in a file in `folder` that has no name: the system may drop its memory and read it again.

    OSError when it does not fit there. It is gone when nobody uses the array any longer, however that comes about.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.truncate(file.fileno(), array.nbytes)
        view, written = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, 0
        while written < len(view):  # written, not mapped: a full disk is an error here and a crash there
            written += os.pwrite(file.fileno(), view[written : written + WRITE_BYTES], written)
        return np.memmap(file, array.dtype, "r", shape=array.shape)
