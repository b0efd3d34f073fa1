"""A network against the one before the round, on the same evaluation examples: what it forgot, and what flipped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Before:
    """What the network before a round said of today's evaluation examples whose labels it knew.

    `scores`: its numbers over these `num_examples`. `right`: for *every* evaluation example, in their order, whether
    it was right, as bits in hexadecimal; of one that it could not know, or that nobody can judge, it was not.
    """

    scores: Mapping[str, float]
    num_examples: int
    right: str


def packed(right: Sequence[bool | None]) -> str:
    """Bits in hexadecimal, eight to two digits."""
    return np.packbits(np.array([bool(one) for one in right], dtype=bool)).tobytes().hex()


def unpacked(bits: str, num_bits: int) -> np.ndarray:
    """The inverse of `packed`: bool of shape (num_bits,)."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=num_bits).astype(bool)


def flips(before: Sequence[bool] | np.ndarray, now: Sequence[bool | None]) -> dict[str, Any]:
    """Examples right before and wrong now (negative), or the other way round, each also as a share of all compared.

    Those whose `now` is None are not compared; {} when none is. The negative share is the negative flip rate of Yan
    et al., "Positive-Congruent Training: Towards Regression-Free Model Updates", 2021.
    """
    judged = np.array([one is not None for one in now], dtype=bool)
    was, is_now = np.asarray(before, dtype=bool)[judged], np.array([bool(one) for one in now], dtype=bool)[judged]
    if not len(was):
        return {}
    negative, positive = int(np.sum(was & ~is_now)), int(np.sum(~was & is_now))
    return {
        "num_compared": len(was),
        "negative_flips": negative,
        "negative_flip_rate": negative / len(was),
        "positive_flips": positive,
        "positive_flip_rate": positive / len(was),
    }


def forgetting(before: Mapping[str, float], now: Mapping[str, Any]) -> dict[str, float]:
    """The score before minus the score now, for each on both sides; not of losses, of which less is better."""
    known = numbers(now)
    names = [name for name in before if name in known and name.rpartition("_")[2] != "loss"]
    return {name: before[name] - known[name] for name in names}


def numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """The scores that are single finite numbers."""
    found = {name: value for name, value in scores.items() if isinstance(value, (int, float)) and name not in COUNTS}
    return {name: value for name, value in found.items() if not isinstance(value, bool) and np.isfinite(value)}


COUNTS = ("num_examples", "num_compared")
GROUPS = ("old_labels", "new_labels", "forgetting")


def named_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Every number by the name it is asked for: `accuracy`, `old_labels.accuracy`, `negative_flip_rate`, ..."""
    groups = {f"{group}.{name}": value for group in GROUPS for name, value in numbers(metrics.get(group, {})).items()}
    return {**numbers(metrics), **numbers(metrics.get("flips", {})), **groups}
