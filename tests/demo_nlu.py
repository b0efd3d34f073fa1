"""`make demo-nlu`: an assistant that learns a new intent. Each submission is a process of its own.

Leaves demo-nlu-run/ behind: data (nlu.yml, and eval/), run (the output folder), questions.txt.
Exits with 1 when anything is not as told.
"""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Timer
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.demo import expect, say, tell

FOLDER = Path("demo-nlu-run")
DATA, RUN = FOLDER / "data", FOLDER / "run"
MESSAGES = Path(__file__).parent / "demo_messages"
QUESTIONS, BEFORE, AFTER = (FOLDER / name for name in ("questions.txt", "before.jsonl", "after.jsonl"))
SUBMIT = f"perdure --data_url ./{DATA} --train_url ./{RUN} --task nlu --epochs 40 --old_data all --threads 1"
EPOCHS_BEFORE_STOP = 5
LIMIT_SECONDS = 120
NEW_INTENT, NEW_QUESTION = "cancel_booking", "I have to cancel my reservation for Saturday"
MIN_F1 = 0.9


def main() -> None:
    """Tell the story; NotAsToldError when anything in it goes wrong."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (DATA / "eval").mkdir(parents=True)
    shutil.copy(MESSAGES / "nlu.yml", DATA / "nlu.yml")
    shutil.copy(MESSAGES / "eval.yml", DATA / "eval/nlu.yml")
    shutil.copy(MESSAGES / "questions.txt", QUESTIONS)
    print(f"A shop rents bikes. What people write to its assistant, and what that means, is in {DATA}/nlu.yml.")
    run("Submit the job. After some epochs the machine is taken away: SIGTERM.", SUBMIT, stop_after=EPOCHS_BEFORE_STOP)
    run("Submit the same job again. It continues where it was.", SUBMIT)
    ask("Ask the model some questions. It has never heard of cancelling.", BEFORE)
    say(f"So nlu.yml is edited: it gets the intent {NEW_INTENT}, with 12 examples, and the evaluation data 3 of them.")
    for name, target in (("cancel.yml", DATA / "nlu.yml"), ("eval_cancel.yml", DATA / "eval/cancel.yml")):
        extend(target, (MESSAGES / name).read_text())
    run("Submit the same job again. What is new in the file is trained, together with what is old.", SUBMIT)
    ask("Ask the same questions again.", AFTER)
    say("Before and after:")
    check(*show(read(BEFORE), read(AFTER)))
    score = f"perdure evaluate --model {RUN} --data_url {DATA}"
    run("The scores of the model, on the evaluation data:", score)
    say(
        f"Now you: write another intent into {DATA}/nlu.yml, submit again, and ask.\n\n.venv/bin/{SUBMIT}\n"
        f'echo "what do you say to this?" | .venv/bin/perdure predict --model {RUN} --input -'
    )


def extend(path: Path, examples: str) -> None:
    """Put more intents into a YAML file, which is made where there is none."""
    text = path.read_text() if path.exists() else 'version: "3.1"\nnlu:\n'
    path.write_text(text.replace("nlu:\n", f"nlu:\n{examples}", 1))


def ask(title: str, output: Path) -> None:
    """Predictions for the questions, as JSON lines."""
    run(title, f"perdure predict --model {RUN} --input {QUESTIONS} --output {output}")


def run(title: str, command: str, *, stop_after: int = 0) -> None:
    """Run a command as a process and show what it says; with `stop_after`, send SIGTERM after so many epochs."""
    say(f"{title}\n$ {command}\n")
    started = time.monotonic()
    words = [sys.executable, "-m", "entrypoint", *shlex.split(command)[1:]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        limit = Timer(LIMIT_SECONDS, process.kill)
        limit.start()
        echo(process.stdout or (), stop_after, process.terminate)
        limit.cancel()
    say(f"exit code {process.returncode} after {time.monotonic() - started:.1f} s")
    expected = 143 if stop_after else 0
    expect(process.returncode == expected, f"the exit code should be {expected}")


def echo(lines: Any, stop_after: int, terminate: Callable[[], None]) -> None:
    """Show lines as they come, but of the epochs only the first ones, every tenth and the last."""
    num_epochs = 0
    for line in lines:
        num_epochs += line.startswith("epoch ")
        if not line.startswith("epoch ") or num_epochs <= EPOCHS_BEFORE_STOP or num_epochs % 10 == 0:
            print(f"  {line}", end="", flush=True)
        if line.startswith("epoch ") and num_epochs == stop_after:
            terminate()


def read(path: Path) -> list[dict[str, Any]]:
    """What `predict` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def show(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A table of all questions; what was said of the new one before and after."""
    table = Table("message", "before", "after", "entities, answer")
    for one, other in zip(before, after, strict=True):
        parts = [f"{found['entity']}={found['value'] or one['text'][found['start'] : found['end']]}"
                 for found in other["entities"]]  # fmt: skip
        names = [f"{said['response_key'] or said['intent']} {said['confidence']:.2f}" for said in (one, other)]
        table.add_row(other["text"], *names, "; ".join([*parts, *filter(None, [other["answer"]])]))
    Console(width=120).print(table)
    told = [one["text"] for one in after].index(NEW_QUESTION)
    return before[told], after[told]


def check(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Compare the run with the story."""
    expect(before["intent"] != NEW_INTENT, "the new intent was known before")
    expect(after["intent"] == NEW_INTENT, f"the new intent was not learned: {after['intent']}")
    attempts = [json.loads(path.read_text()) for path in sorted((RUN / "attempts").glob("*.json"))]
    expect([one["outcome"] for one in attempts] == ["stopped", "done", "done"], "outcomes differ from the story")
    expect(attempts[1]["resumed_from"] is not None, "the second submission began anew")
    expect(attempts[2]["new_examples"] == 12, f"{attempts[2]['new_examples']} new examples, not 12")
    metrics = (RUN / "metrics/000003.jsonl").read_text().splitlines()
    scores = next(found["metrics"] for line in reversed(metrics) if "metrics" in (found := json.loads(line)))
    expect(scores["intent_f1_weighted"] > MIN_F1, f"intent F1 {scores['intent_f1_weighted']:.3f}, not above {MIN_F1}")


if __name__ == "__main__":
    tell(main)
