"""Jobs of task `nlu` as a user would submit them, and what they took: whole processes, from start to exit."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Run:
    """One submission. `curve` has, by epoch, the examples visited in this submission and the scores after it."""

    folder: Path
    seconds: float
    train_seconds: float
    megabytes: float
    curve: list[tuple[int, Mapping[str, Any]]]

    @property
    def scores(self) -> Mapping[str, Any]:
        """Those of the last epoch."""
        return self.curve[-1][1]

    @property
    def visits(self) -> int:
        """How many examples were trained, each as often as it was."""
        return self.curve[-1][0]

    def visits_until(self, within: float, name: str = "intent_f1_weighted") -> int:
        """The visits at the end of the first epoch whose score is at most `within` below the last one."""
        return next(visits for visits, scores in self.curve if scores[name] >= self.scores[name] - within)


def submit(data: Path, eval_data: Path, folder: Path, seed: int, sets: Mapping[str, str]) -> Run:
    """Train what is in `data`, or what is new there; RuntimeError with the job's last words where it fails."""
    command = [
        sys.executable, "-m", "entrypoint", "train", "--task", "nlu", "--data_url", str(data),
        "--eval_url", str(eval_data), "--train_url", str(folder), "--seed", str(seed),
        *(part for name, value in sets.items() for part in ("--set", f"{name}={value}")),
    ]  # fmt: skip
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        words = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{words}")
    return _run(folder, seconds, usage.ru_maxrss / 1024)


def _run(folder: Path, seconds: float, megabytes: float) -> Run:
    """What the output folder says of its newest attempt."""
    outcome = json.loads(max(folder.glob("attempts/*.json")).read_text())
    lines = [json.loads(line) for line in max(folder.glob("metrics/*.jsonl")).read_text().splitlines()]
    first = lines[-1]["num_examples"] - outcome["num_examples_trained"]
    curve = [(line["num_examples"] - first, line["metrics"]) for line in lines]
    train_seconds = float(outcome["seconds"]["train"])
    return Run(folder=folder, seconds=seconds, train_seconds=train_seconds, megabytes=megabytes, curve=curve)


def intents_of(run: Path, messages: Path) -> list[str]:
    """The intents that the exported model of a run says of the messages in a JSONL."""
    output = run / "predictions.jsonl"
    command = [sys.executable, "-m", "entrypoint", "predict", "--model", str(run), "--input", str(messages)]
    subprocess.run([*command, "--output", str(output)], check=True, capture_output=True)
    return [json.loads(line)["intent"] for line in output.read_text().splitlines()]
