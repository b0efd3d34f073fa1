"""Scores agree with scikit-learn's."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from trainer.evaluate import plain_scores
from trainer.metrics import classification_scores

NAMES = ("ant", "bee", "cat", "dog")
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(PAIRS)
def test_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    targets, predicted = map(list, zip(*pairs, strict=True))
    scores = classification_scores(targets, predicted, NAMES)
    present = sorted(set(targets))
    expected = precision_recall_fscore_support(targets, predicted, labels=present, zero_division=0)
    assert scores["accuracy"] == pytest.approx(accuracy_score(targets, predicted))
    macro_f1 = f1_score(targets, predicted, labels=present, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(macro_f1)
    assert list(scores["per_label"]) == [NAMES[i] for i in present]
    for i, own in enumerate(scores["per_label"].values()):
        assert list(own.values()) == pytest.approx([column[i] for column in expected])


@given(PAIRS, st.randoms())
def test_the_order_of_examples_does_not_matter(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _scores(shuffled) == pytest.approx(_scores(pairs))


def test_scores_are_plain_json() -> None:
    scores = classification_scores(np.array([0, 1, 1]), np.array([0, 1, 2]), NAMES)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_nothing_has_no_scores() -> None:
    assert classification_scores([], [], NAMES) == {}


def _scores(pairs: list[tuple[int, int]]) -> list[float]:
    scores = classification_scores(*map(list, zip(*pairs, strict=True)), NAMES)
    return [scores["accuracy"], scores["macro_f1"]]


def test_scores_become_what_json_has() -> None:
    scores = {"a": np.float32(0.5), "b": torch.tensor(2), "c": float("nan"), "per": {1: np.int64(3), "x": [np.inf]}}
    assert plain_scores(scores) == {"a": 0.5, "b": 2, "c": None, "per": {"1": 3, "x": [None]}}
    assert json.dumps(plain_scores(scores), allow_nan=False)
