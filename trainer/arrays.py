"""Examples that are rows of arrays: many at once, without a line of Python for each."""

from collections.abc import Sequence

import numpy as np


def gathered(arrays: Sequence[np.ndarray], which: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Row `indices[i]` of `arrays[which[i]]` for each i, all of one dtype and shape (..., *row): (n, *row)."""
    if len(arrays) == 1:
        return arrays[0].take(indices, axis=0)
    rows = np.empty((len(indices), *arrays[0].shape[1:]), arrays[0].dtype)
    for number, array in enumerate(arrays):
        here = np.flatnonzero(which == number)
        rows[here] = array.take(indices[here], axis=0)
    return rows
