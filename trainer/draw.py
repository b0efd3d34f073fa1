"""Random draws as pure functions of what they are for, the same on every machine and library version.

Order, augmentation and replay must come out alike in every attempt, for years: so they use neither a generator
whose state would have to be saved nor one whose stream a library may change.
"""

import hashlib

import numpy as np

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
CHUNK = 2**14


def stream(seed: int, purpose: str, *numbers: int) -> int:
    """The 64-bit key of one stream of draws, e.g. stream(seed, "shards", round, epoch)."""
    text = repr((seed, purpose, *numbers)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def draw(key: int, number: int) -> int:
    """The uint64 at place `number` of a stream: splitmix64 (Steele, Lea and Flood, 2014)."""
    z = (key + (number + 1) * GOLDEN) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def draws(key: int, numbers: np.ndarray) -> np.ndarray:
    """`draw` for an array of places: uint64 of the same shape; different places never give the same value."""
    z = np.uint64(key) + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def permutation(key: int, num: int) -> np.ndarray:
    """0 .. num-1 in the order of a stream: int64 of shape (num,). No two draws of a stream are equal."""
    drawn = np.empty(num, np.uint64)
    for start in range(0, num, CHUNK):  # what fits into the processor's cache
        stop = min(start + CHUNK, num)
        drawn[start:stop] = draws(key, np.arange(start, stop))
    return np.argsort(drawn)


def sample(key: int, num: int, total: int) -> list[int]:
    """`num` distinct integers below `total`, sorted, in memory and time of `num` alone (Floyd's algorithm)."""
    chosen: set[int] = set()
    for place, upper in enumerate(range(total - num, total)):
        candidate = draw(key, place) % (upper + 1)
        chosen.add(upper if candidate in chosen else candidate)
    return sorted(chosen)
