"""Scores of predictions against targets, as pure functions of arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Ids = Sequence[int] | np.ndarray


def classification_scores(targets: Ids, predicted: Ids, names: Sequence[str]) -> dict[str, Any]:
    """`accuracy`, `macro_f1` and `per_label` of ids below len(names), both of shape (n,); {} of no predictions.

    `per_label` maps a name to its `precision`, `recall`, `f1` and `num_examples`. It holds the labels that occur in
    the targets, and `macro_f1` is their mean: a label without a target has no recall that could be averaged.
    """
    if len(targets) == 0:
        return {}
    per_label = label_scores(targets, predicted, names)
    return {
        "accuracy": float(np.mean(np.asarray(targets) == np.asarray(predicted))),
        "macro_f1": float(np.mean([scores["f1"] for scores in per_label.values()])),
        "per_label": per_label,
    }


def label_scores(targets: Ids, predicted: Ids, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of examples of each label that occurs in the targets, in the order of ids."""
    hits, num_targets, num_predicted = _counts(np.asarray(targets), np.asarray(predicted), len(names))
    return {
        names[i]: {
            "precision": _share(hits[i], num_predicted[i]),
            "recall": _share(hits[i], num_targets[i]),
            "f1": _share(2 * hits[i], num_targets[i] + num_predicted[i]),
            "num_examples": int(num_targets[i]),
        }
        for i in np.flatnonzero(num_targets).tolist()
    }


def _counts(targets: np.ndarray, predicted: np.ndarray, num_labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per label: right predictions, targets, predictions; int64 of shape (num_labels,) each."""
    right = targets[targets == predicted]
    hits, num_targets, num_predicted = (np.bincount(ids, minlength=num_labels) for ids in (right, targets, predicted))
    return hits, num_targets, num_predicted


def _share(part: int, whole: int) -> float:
    """A quotient of counts; 0 for a label that was never predicted."""
    return float(part / whole) if whole else 0.0
