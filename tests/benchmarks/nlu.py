"""The figures of task `nlu`, beside those of Rasa 3.6.21 and of linear models: scores, time, memory, forgetting.

python -m tests.benchmarks.nlu [--data FOLDER] [--seeds N] [--only PART ...] [--set NAME=VALUE ...] [--json FILE]
"""

import argparse
import csv
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.nlu_runs import Run, predicted, submit
from tests.benchmarks.table import machine

SPLITS, NUM_ROUNDS, RESAMPLES = 3, 5, 2000
RASA = {"set1": (0.789, 0.913, 66.0, 60.0), "finetuned": (0.831, 0.930, 46.0, 25.0), "both": (0.832, 0.914, 69.0, 63.0)}
"""Means over the splits of intent and entity F1; seconds of process and of training on the first."""
LINEAR = {"set1": (0.824, 0.937), "finetuned": (None, None), "both": (0.846, 0.945)}
SARA = {"set1": (403.0, 3200), "finetuned": (170.0, 800), "both": (449.0, 4000)}
"""Rasa's seconds on its assistant Sara of about 4,000 messages, and how many of Banking77 stand for them here."""

Sets = Mapping[str, str]
Row = list[Any]


def financial(data: Path, folder: Path, seeds: int, sets: Sets) -> dict[str, Any]:
    """Financial-demo: three splits, each from scratch on set1, finetuned by set2, and from scratch on both."""
    runs: dict[str, list[Run]] = {name: [] for name in RASA}
    right: dict[str, list[list[bool]]] = {"finetuned": [], "both": []}
    for split in range(SPLITS):
        source = data / "financial-demo" / f"split-s{split}"
        for seed in range(seeds):
            place = folder / f"{split}-{seed}"
            for name, run in _three(source, place, seed, sets):
                runs[name].append(run)
            for name, kept in right.items():
                kept.append(_right(place / ("both" if name == "both" else "grown"), source / "test.jsonl"))
    return {**{name: _summary(each) for name, each in runs.items()}, **_against_scratch(runs, right)}


def _three(source: Path, place: Path, seed: int, sets: Sets) -> Iterator[tuple[str, Run]]:
    suffix = ".yml" if (source / "set1.yml").exists() else ".csv"
    test = _copied([source / f"test{suffix}"], place / "eval")
    growing = _copied([source / f"set1{suffix}"], place / "data")
    yield "set1", submit(growing, test, place / "grown", seed, sets)
    _copied([source / f"set2{suffix}"], growing)
    yield "finetuned", submit(growing, test, place / "grown", seed, sets)
    yield "both", submit(growing, test, place / "both", seed, sets)


def _copied(files: Sequence[Path], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder)
    return folder


def _right(run: Path, messages: Path) -> list[bool]:
    truth = [json.loads(line)["intent"] for line in messages.read_text().splitlines()]
    return [one["intent"] == intent for one, intent in zip(predicted(run, messages), truth, strict=True)]


def _summary(runs: Sequence[Run]) -> dict[str, float]:
    names = [name for name in ("intent_f1_weighted", "entity_f1_token", "intent_accuracy") if name in runs[0].scores]
    return {
        **{name: fmean(run.scores[name] for run in runs) for name in names},
        "seconds": median(run.seconds for run in runs),
        "train_seconds": median(run.train_seconds for run in runs),
        "megabytes": max(run.megabytes for run in runs),
        "visits": fmean(run.visits for run in runs),
    }


def _against_scratch(runs: Mapping[str, Sequence[Run]], right: Mapping[str, list[list[bool]]]) -> dict[str, Any]:
    """Accuracy of finetuned minus that of scratch with its bootstrap interval over messages; the share of visits."""
    differences = np.array(right["finetuned"], dtype=float) - np.array(right["both"], dtype=float)
    chosen = np.random.default_rng(0).integers(0, differences.size, (RESAMPLES, differences.size))
    low, high = np.quantile(differences.ravel()[chosen].mean(axis=1), [0.025, 0.975])
    needed = fmean(run.visits_until(0.005) for run in runs["both"])
    return {
        "finetuned_minus_scratch": float(differences.mean()),
        "interval_95": [float(low), float(high)],
        "share_of_visits": fmean(run.visits for run in runs["finetuned"]) / needed,
    }


def banking(data: Path, folder: Path, seeds: int, sets: Sets) -> dict[str, Any]:
    """Banking77: all at once, and as five rounds of about 2,000 messages with about 15 new intents each."""
    parts = [_by_label(data / "banking77" / f"{name}.csv") for name in ("train", "test")]
    groups = [labels.tolist() for labels in np.array_split(_shuffled(sorted(parts[0])), NUM_ROUNDS)]
    found: list[dict[str, Any]] = []
    for seed in range(seeds):
        place, rounds = folder / str(seed), []
        for number, labels in enumerate(groups):
            for name, rows in zip(("data", "eval"), parts, strict=True):
                _write([row for label in labels for row in rows[label]], place / name / f"{number}.csv")
            rounds.append(submit(place / "data", place / "eval", place / "rounds", seed, sets))
        joint = submit(place / "data", place / "eval", place / "joint", seed, sets)
        found.append(_compared(joint, rounds, {label for labels in groups[:-1] for label in labels}))
    return {name: fmean(one[name] for one in found) for name in found[0]}


def _compared(joint: Run, rounds: Sequence[Run], old: set[str]) -> dict[str, float]:
    return {
        "joint": joint.scores["intent_accuracy"],
        "joint_seconds": joint.seconds,
        "joint_train_seconds": joint.train_seconds,
        "joint_megabytes": joint.megabytes,
        "rounds": rounds[-1].scores["intent_accuracy"],
        "rounds_seconds": fmean(run.seconds for run in rounds),
        "last_round_seconds": rounds[-1].seconds,
        "forgetting": _accuracy(joint, old) - _accuracy(rounds[-1], old),
        "share_of_visits": rounds[-1].visits / joint.visits_until(0.005, "intent_accuracy"),
    }


def _accuracy(run: Run, labels: set[str]) -> float:
    """The share of the messages of these labels that is right."""
    chosen = [of_label for label, of_label in run.scores["per_label"].items() if label in labels]
    return sum(one["recall"] * one["num_examples"] for one in chosen) / sum(one["num_examples"] for one in chosen)


def _by_label(path: Path) -> dict[str, list[list[str]]]:
    with path.open(newline="") as stream:
        _, *rows = csv.reader(stream)
    grouped: dict[str, list[list[str]]] = {}
    for text, label in rows:
        grouped.setdefault(label, []).append([text, label])
    return grouped


def _shuffled(names: Sequence[str]) -> np.ndarray:
    return np.random.default_rng(0).permutation(names)


def _write(rows: Sequence[Sequence[str]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["text", "category"], *rows])


def sara(data: Path, folder: Path, seeds: int, sets: Sets) -> dict[str, Any]:
    """About 4,000 messages, of Banking77: how long set1, a finetune and both take."""
    rows = [row for of_label in _by_label(data / "banking77" / "train.csv").values() for row in of_label]
    chosen = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[: SARA["both"][1] + 500]]
    first, last = SARA["set1"][1], SARA["both"][1]
    source = folder / "source"
    for name, part in (("set1", chosen[:first]), ("set2", chosen[first:last]), ("test", chosen[last:])):
        _write(part, source / f"{name}.csv")
    runs: dict[str, list[Run]] = {name: [] for name in SARA}
    for seed in range(seeds):
        for name, run in _three(source, folder / str(seed), seed, sets):
            runs[name].append(run)
    return {name: _summary(each) for name, each in runs.items()}


def speed(data: Path, folder: Path, seeds: int, sets: Sets) -> dict[str, Any]:
    """Predictions of one core: messages a second, 64 at a time, and the median and 99th percentile for one."""
    from trainer.tasks.nlu import load

    source = data / "financial-demo" / "split-s0"
    training, test = _copied([source / "set1.yml"], folder / "data"), _copied([source / "test.yml"], folder / "eval")
    model = load(submit(training, test, folder / "run", 0, sets).folder / "model")
    texts = [text for rows in _by_label(data / "banking77" / "test.csv").values() for text, _ in rows]
    torch.set_num_threads(1)
    model.predict(texts[:64])
    started = time.perf_counter()
    for start in range(0, len(texts), 64):
        model.predict(texts[start : start + 64])
    seconds = time.perf_counter() - started
    lone = [_seconds(lambda text=text: model.predict([text])) for text in texts[:500]]
    return {
        "messages_a_second": len(texts) / seconds,
        "p50_ms": float(np.quantile(lone, 0.5)) * 1000,
        "p99_ms": float(np.quantile(lone, 0.99)) * 1000,
    }


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


PARTS: dict[str, Callable[[Path, Path, int, Sets], dict[str, Any]]] = {
    "financial": financial, "banking": banking, "sara": sara, "speed": speed,
}  # fmt: skip


def tables(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """The figures beside those they are measured by."""
    if "financial" in found:
        yield _financial_table(found["financial"])
    if "sara" in found:
        rows = [[name, seconds, found["sara"][name]["seconds"]] for name, (seconds, _) in SARA.items()]
        yield _table(
            "4,000 messages, seconds", ["", "Rasa", "ours", "times"], [[*row, row[1] / row[2]] for row in rows]
        )
    for name in ("banking", "speed"):
        if name in found:
            yield _table(name, ["", "ours"], [[key, value] for key, value in found[name].items()])


def _financial_table(found: Mapping[str, Any]) -> Table:
    headings = [
        "",
        "intent: Rasa",
        "linear",
        "ours",
        "entity: Rasa",
        "linear",
        "ours",
        "s: Rasa",
        "ours",
        "training: Rasa",
        "ours",
    ]
    rows = []
    for name, (intent, entity, seconds, training) in RASA.items():
        own, linear = found[name], LINEAR[name]
        rows.append(
            [
                name, intent, linear[0], own["intent_f1_weighted"], entity, linear[1], own["entity_f1_token"],
                seconds, own["seconds"], training, own["train_seconds"],
            ]
        )  # fmt: skip
    low, high = found["interval_95"]
    title = (
        f"Financial-demo, means over {SPLITS} splits. Finetuned - scratch: {found['finetuned_minus_scratch']:+.4f} "
        f"[{low:+.4f}, {high:+.4f}] at {found['share_of_visits']:.0%} of the visits; "
        f"memory {max(found[name]['megabytes'] for name in RASA):.0f} MB"
    )
    return _table(title, headings, rows)


def _table(title: str, headings: Sequence[str], rows: Sequence[Row]) -> Table:
    table = Table(title=f"{title} ({machine()})")
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for row in rows:
        table.add_row(*("" if cell is None else cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row))
    return table


def main() -> None:
    """Measure what was asked for, part by part, and print each table as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nlu"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    missing = [name for name in ("financial-demo", "banking77") if not (asked.data / name).is_dir()]
    if missing:
        parser.exit(1, f"{asked.data}: lacks {' and '.join(missing)}; name the folder that has them with --data\n")
    sets = dict(text.split("=", 1) for text in asked.set)
    found: dict[str, Any] = {"machine": machine(), "settings": sets}
    for name in asked.only:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = PARTS[name](asked.data, Path(folder), asked.seeds, sets)
        for table in tables({name: found[name]}):
            Console(width=150).print(table)
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
