"""The figures of task `nlu`, beside those of Rasa 3.6.21 and of linear models: scores, time, memory, forgetting.

python -m tests.benchmarks.nlu [--data FOLDER] [--seeds N] [--only PART ...] [--set NAME=VALUE ...] [--json FILE]

FOLDER holds `financial-demo` and `banking77`, and may hold `rasa-demo`: the NLU files of Rasa's assistant Sara.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from rich.console import Console

from tests.benchmarks.nlu_compare import Judged, difference
from tests.benchmarks.nlu_data import assistant, by_label, copied, write, write_questions
from tests.benchmarks.nlu_runs import Run, intents_of, submit
from tests.benchmarks.nlu_tables import tables
from tests.benchmarks.table import machine
from trainer.tasks.nlu.reading import SUFFIXES

SPLITS, NUM_ROUNDS = 3, 5
NAMES = ("set1", "finetuned", "both")
SARA = {"set1": 3200, "both": 4000}
"""How many messages of Banking77 stand for Rasa's assistant Sara."""
SCORES = ("intent_f1_weighted", "entity_f1_token", "intent_accuracy", "response_f1", "response_f1_given_intent")
WITHIN = 0.005
"""A training has arrived when its score is so close to the last one."""

Sets = Mapping[str, str]


def financial(data: Path, folder: Path, seeds: int, sets: Sets) -> dict[str, Any]:
    """Financial-demo: three splits, each from scratch on set1, finetuned by set2, and from scratch on both."""
    runs: dict[str, list[Run]] = {name: [] for name in NAMES}
    judged: list[Judged] = []
    for split in range(SPLITS):
        source = data / "financial-demo" / f"split-s{split}"
        said: dict[str, list[list[str]]] = {"grown": [], "both": []}
        for seed in range(seeds):
            place = folder / f"{split}-{seed}"
            for name, run in _three(source, place, seed, sets):
                runs[name].append(run)
            for name, answers in said.items():
                answers.append(intents_of(place / name, source / "test.jsonl"))
        judged.append(Judged(_truth(source / "test.jsonl"), said["grown"], said["both"]))
    return {
        **{name: _summary(each) for name, each in runs.items()},
        "difference": difference(judged),
        "share_of_visits": _share_of_visits(runs["finetuned"], runs["both"], "intent_f1_weighted"),
        "share_by_entities": _share_of_visits(runs["finetuned"], runs["both"], "entity_f1_token"),
    }


def _three(source: Path, place: Path, seed: int, sets: Sets) -> Iterator[tuple[str, Run]]:
    suffix = next(suffix for suffix in SUFFIXES if (source / f"set1{suffix}").exists())
    test = copied([source / f"test{suffix}"], place / "eval")
    growing = copied([source / f"set1{suffix}"], place / "data")
    yield "set1", submit(growing, test, place / "grown", seed, sets)
    copied([source / f"set2{suffix}"], growing)
    yield "finetuned", submit(growing, test, place / "grown", seed, sets)
    yield "both", submit(growing, test, place / "both", seed, sets)


def _truth(messages: Path) -> list[str]:
    return [json.loads(line)["intent"] for line in messages.read_text().splitlines()]


def _summary(runs: Sequence[Run]) -> dict[str, float]:
    return {
        **{name: fmean(run.scores[name] for run in runs) for name in SCORES if name in runs[0].scores},
        "seconds": median(run.seconds for run in runs),
        "train_seconds": median(run.train_seconds for run in runs),
        "megabytes": max(run.megabytes for run in runs),
        "visits": fmean(run.visits for run in runs),
    }


def _share_of_visits(finetuned: Sequence[Run], scratch: Sequence[Run], score: str) -> float:
    """What finetuning visits of what training from scratch visits until it has arrived."""
    needed = fmean(run.visits_until(WITHIN, score) for run in scratch)
    return fmean(run.visits for run in finetuned) / needed


def banking(data: Path, folder: Path, seeds: int, sets: Sets) -> dict[str, Any]:
    """Banking77: all at once, and as five rounds of about 2,000 messages with about 15 new intents each.

    After each round the network stands beside one that was trained at once on all messages so far.
    """
    parts = [by_label(data / "banking77" / f"{name}.csv") for name in ("train", "test")]
    groups = [labels.tolist() for labels in np.array_split(_shuffled(sorted(parts[0])), NUM_ROUNDS)]
    messages = folder / "test.jsonl"
    truth = write_questions([row for labels in groups for label in labels for row in parts[1][label]], messages)
    seen = [_rounds(parts, groups, folder / str(seed), seed, sets) for seed in range(seeds)]
    said = [[intents_of(pairs[-1][which].folder, messages) for pairs in seen] for which in range(2)]
    return {**_compared(seen, groups), "difference": difference([Judged(truth, *said)])}


def _rounds(
    parts: Sequence[Mapping[str, list[list[str]]]], groups: Sequence[Sequence[str]], place: Path, seed: int, sets: Sets
) -> list[tuple[Run, Run]]:
    """After each round the run that grew, and one at once on the same messages."""
    pairs = []
    for number, labels in enumerate(groups):
        for name, rows in zip(("data", "eval"), parts, strict=True):
            write([row for label in labels for row in rows[label]], place / name / f"{number}.csv")
        grown = submit(place / "data", place / "eval", place / "rounds", seed, sets)
        joint = submit(place / "data", place / "eval", place / f"joint{number}", seed, sets) if number else grown
        pairs.append((grown, joint))
    return pairs


def _compared(seen: Sequence[Sequence[tuple[Run, Run]]], groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Means over seeds of the last round's figures, and forgetting after each round."""
    last, joint = ([pairs[-1][which] for pairs in seen] for which in range(2))
    forgetting = {
        str(number + 1): fmean(_forgetting(*pairs[number], groups[:number]) for pairs in seen)
        for number in range(1, len(groups))
    }
    accuracies = [fmean(run.scores["intent_accuracy"] for run in runs) for runs in (last, joint)]
    return {
        "joint": {**_summary(joint), "accuracy": accuracies[1]},
        "rounds": {
            **_summary(last),
            "accuracy": accuracies[0],
            "minus_joint": accuracies[0] - accuracies[1],
            "share_of_visits": _share_of_visits(last, joint, "intent_accuracy"),
        },
        "forgetting": forgetting,
    }


def _forgetting(grown: Run, joint: Run, groups: Sequence[Sequence[str]]) -> float:
    """How much better a network that was trained at once is on the labels of earlier rounds."""
    old = {label for labels in groups for label in labels}
    return _accuracy(joint, old) - _accuracy(grown, old)


def _accuracy(run: Run, labels: set[str]) -> float:
    """The share of the messages of these labels that is right."""
    chosen = [of_label for label, of_label in run.scores["per_label"].items() if label in labels]
    return sum(one["recall"] * one["num_examples"] for one in chosen) / sum(one["num_examples"] for one in chosen)


def _shuffled(names: Sequence[str]) -> np.ndarray:
    return np.random.default_rng(0).permutation(names)


def sara(data: Path, folder: Path, seeds: int, sets: Sets) -> dict[str, Any]:
    """Rasa's assistant Sara; where it is not at hand, as many messages of Banking77, for the time alone."""
    runs: dict[str, list[Run]] = {name: [] for name in NAMES}
    for seed in range(seeds):
        source = folder / f"source{seed}"
        if (data / "rasa-demo").is_dir():
            assistant(data / "rasa-demo", seed, source)
        else:
            _stand_in(data, source)
        for name, run in _three(source, folder / str(seed), seed, sets):
            runs[name].append(run)
    return {name: _summary(each) for name, each in runs.items()}


def _stand_in(data: Path, source: Path) -> None:
    rows = [row for of_label in by_label(data / "banking77" / "train.csv").values() for row in of_label]
    first, last = SARA["set1"], SARA["both"]
    chosen = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[: last + 500]]
    for name, part in (("set1", chosen[:first]), ("set2", chosen[first:last]), ("test", chosen[last:])):
        write(part, source / f"{name}.csv")


def speed(data: Path, folder: Path, seeds: int, sets: Sets) -> dict[str, Any]:
    """Predictions of one core: messages a second, 64 at a time, and the median and 99th percentile for one."""
    from trainer.tasks.nlu import load

    source = data / "financial-demo" / "split-s0"
    training, test = copied([source / "set1.yml"], folder / "data"), copied([source / "test.yml"], folder / "eval")
    model = load(submit(training, test, folder / "run", 0, sets).folder / "model")
    texts = [text for rows in by_label(data / "banking77" / "test.csv").values() for text, _ in rows]
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
            Console(width=110).print(table)
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
