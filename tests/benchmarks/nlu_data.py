"""Data sets that the figures of task `nlu` are measured on, as files to train and to ask about."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.tasks.nlu.messages import Entity, Message
from trainer.tasks.nlu.reading import read

HELD_OUT, FIRST = 0.2, 0.8
"""The share of an assistant's messages that is asked about, and what set1 has of the others."""
MAX_TEXT_CHARS = 2000


def copied(files: Sequence[Path], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder)
    return folder


def by_label(path: Path) -> dict[str, list[list[str]]]:
    with path.open(newline="") as stream:
        _, *rows = csv.reader(stream)
    grouped: dict[str, list[list[str]]] = {}
    for text, label in rows:
        grouped.setdefault(label, []).append([text, label])
    return grouped


def write(rows: Sequence[Sequence[str]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["text", "category"], *rows])


def write_questions(rows: Sequence[Sequence[str]], path: Path) -> list[str]:
    """The texts as JSON lines, to be asked about; what they are."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in rows))
    return [label for _, label in rows]


def assistant(folder: Path, seed: int, splits: Path) -> None:
    """The messages of an assistant's NLU files as set1, set2 and test, each with its share of every label."""
    messages = {
        (one.text, one.response_key or one.intent or ""): one
        for path in sorted(folder.glob("*.yml"))
        for one in read(path, MAX_TEXT_CHARS)
    }
    of_label: dict[str, list[Message]] = {}
    for (_, label), message in messages.items():
        of_label.setdefault(label, []).append(message)
    rng = np.random.default_rng(seed)
    parts: tuple[list[Message], ...] = ([], [], [])
    for label in sorted(of_label):
        shuffled = [of_label[label][i] for i in rng.permutation(len(of_label[label]))]
        test = round(HELD_OUT * len(shuffled))
        first = test + max(1, round(FIRST * (len(shuffled) - test)))
        for part, chosen in zip(parts, (shuffled[test:first], shuffled[first:], shuffled[:test]), strict=True):
            part.extend(chosen)
    for name, part in zip(("set1", "set2", "test"), parts, strict=True):
        _write_messages(part, splits / f"{name}.jsonl")


def _write_messages(messages: Sequence[Message], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({**one._asdict(), "entities": [_said(entity) for entity in one.entities]} for one in messages)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _said(entity: Entity) -> dict[str, Any]:
    return {name: value for name, value in entity._asdict().items() if value is not None}
