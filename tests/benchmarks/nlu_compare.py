"""Whether one training of task `nlu` is worse than another: weighted F1 on the same messages, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Judged:
    """What two kinds of training say of the messages of one test set: a list of intents per seed, each as `truth`."""

    truth: Sequence[str]
    ours: Sequence[Sequence[str]]
    theirs: Sequence[Sequence[str]]


def difference(tests: Sequence[Judged]) -> dict[str, float]:
    """The mean over test sets and seeds of weighted F1, ours minus theirs, and its 95 % bootstrap interval.

    Messages are drawn anew within each test set, and what all seeds say of one goes with it: answers to one message
    are not independent, however many seeds there are.
    """
    random = np.random.default_rng(0)
    means = np.mean([_differences(test, random) for test in tests], axis=0)
    low, high = np.quantile(means[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"mean": float(means[0]), "low": float(low), "high": float(high)}


def _differences(test: Judged, random: np.random.Generator) -> np.ndarray:
    """(1 + RESAMPLES,): on the messages as they are, then on each draw of them."""
    num = len(test.truth)
    counts = np.vstack([np.ones((1, num)), random.multinomial(num, np.full(num, 1 / num), RESAMPLES)])
    ours, theirs = (
        np.mean([_weighted_f1(counts, test.truth, said) for said in seeds], axis=0)
        for seeds in (test.ours, test.theirs)
    )
    return np.asarray(ours - theirs)


def _weighted_f1(counts: np.ndarray, truth: Sequence[str], said: Sequence[str]) -> np.ndarray:
    """Weighted F1 where message i counts `counts[:, i]` times: (draws, messages) to (draws,)."""
    names = sorted({*truth, *said})
    is_true, is_said = (np.array([[name == one for name in names] for one in column]) for column in (truth, said))
    right, true, all_said = (counts @ which.astype(float) for which in (is_true & is_said, is_true, is_said))
    f1 = 2 * right / np.maximum(true + all_said, 1)
    return np.asarray((f1 * true).sum(axis=1) / true.sum(axis=1))
