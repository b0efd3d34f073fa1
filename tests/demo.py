"""`make demo`: the whole story on real handwritten digits. Each submission is a process of its own.

Leaves demo-run/ behind: data (the shards), run (the output folder), new (what was appended), more (what can be).
Exits with 1 when anything is not as told.
"""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.shards import digits, write_tar

FOLDER = Path("demo-run")
DATA, NEW, MORE, RUN = (FOLDER / name for name in ("data", "new", "more", "run"))
EPOCHS = 15
NUM_FIRST, NUM_NEW, NUM_NEW_NINES = 840, 360, 120
ARGUMENTS = (
    f"--data_url ./{DATA} --train_url ./{RUN} --task images --epochs {EPOCHS} --epoch_fraction 0.4 --threads 1"
    " --set image_size=8 --set channels=1 --set stages=2 --set width=32"
)
EPOCHS_BEFORE_STOP = 3
LIMIT_SECONDS = 120
MIN_ACCURACY = 0.97


class NotAsToldError(Exception):
    """Something in the story went wrong; its text says what."""


def main() -> None:
    """Tell the story; NotAsToldError when anything in it goes wrong."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    num_shards = make_shards()
    print(f"{num_shards} shards of handwritten digits, '0' to '8', are in {DATA}/, as .tar files of images and labels.")
    submit("Submit the job. In the middle of an epoch the machine is taken away: SIGTERM.", stopped=True)
    submit("Submit the same job again. It continues where it was.")
    say(f"Three shards are appended, with a label that was never seen before: '9'.\n$ cp -r {NEW}/. {DATA}/")
    shutil.copytree(NEW, DATA, dirs_exist_ok=True)
    submit("Submit the same job again. It trains what is new, mixed with some of the old.")
    submit("Submit the same job again. There is nothing to do, and that is a success.")
    attempts = [read_attempt(path) for path in sorted((RUN / "attempts").glob("*.json"))]
    say("What the output folder says about its attempts:")
    show(attempts)
    check(attempts)
    say(f"Now you: append another shard, submit again.\n\ncp {MORE}/*.tar {DATA}/\n.venv/bin/perdure {ARGUMENTS}")


def make_shards() -> int:
    """Write the shards of the first round to DATA and the others beside; the number of the first."""
    images, labels = digits()
    held_out = np.arange(len(labels)) % 5 == 0
    is_nine = labels == "9"
    known, nines = np.flatnonzero(~held_out & ~is_nine), np.flatnonzero(~held_out & is_nine)
    first, new, more = np.split(known, [NUM_FIRST, NUM_FIRST + NUM_NEW])
    shuffled = np.random.default_rng(0).permutation
    parts = [
        *((DATA, part) for part in np.split(first, 8)),
        *((NEW, part) for part in np.split(shuffled([*new, *nines[:NUM_NEW_NINES]]), 3)),
        (MORE, shuffled([*more, *nines[NUM_NEW_NINES:]])),
    ]
    for number, (folder, part) in enumerate(parts):
        write_tar(folder / f"digits-{number:02}.tar", images[part], labels[part])
    for path, chosen in ((DATA / "eval/0-to-8.tar", held_out & ~is_nine), (NEW / "eval/9.tar", held_out & is_nine)):
        write_tar(path, images[chosen], labels[chosen])
    return len(list(DATA.glob("*.tar")))


def submit(title: str, *, stopped: bool = False) -> None:
    """Run the job as a process and show what it says; with `stopped`, send SIGTERM in the middle of an epoch."""
    say(f"{title}\n$ perdure {ARGUMENTS}\n")
    started = time.monotonic()
    command = [sys.executable, "-m", "entrypoint", *shlex.split(ARGUMENTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        limit = Timer(LIMIT_SECONDS, process.kill)
        limit.start()
        epochs_seen_at = [started]
        for line in process.stdout or ():
            print(f"  {line}", end="", flush=True)
            if stopped and line.startswith("epoch "):
                epochs_seen_at.append(time.monotonic())
                if len(epochs_seen_at) == 1 + EPOCHS_BEFORE_STOP:
                    time.sleep((epochs_seen_at[-1] - epochs_seen_at[-2]) / 2)  # half of what an epoch takes
                    process.terminate()
        limit.cancel()
    say(f"exit code {process.returncode} after {time.monotonic() - started:.1f} s")
    expected = 143 if stopped else 0
    expect(process.returncode == expected, f"the exit code should be {expected}")


def read_attempt(path: Path) -> dict[str, Any]:
    """An attempt's outcome, with the accuracy of its last epoch, or None."""
    metrics = RUN / "metrics" / f"{path.stem}.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    accuracy = json.loads(lines[-1])["metrics"]["accuracy"] if lines else None
    return {**json.loads(path.read_text()), "accuracy": accuracy}


def show(attempts: Sequence[dict[str, Any]]) -> None:
    """A table of the attempts."""
    table = Table("attempt", "outcome", "exit code", "resumed from", "round", "epoch", "steps", "examples", "accuracy")
    for one in attempts:
        numbers = (one["round"], one["epoch"], f"{one['first_global_step']} to {one['last_global_step']}")
        accuracy = "-" if one["accuracy"] is None else f"{one['accuracy']:.3f}"
        row = (one["attempt"], one["outcome"], one["exit_code"], one["resumed_from"] or "-", *numbers)
        table.add_row(*map(str, row), str(one["num_examples_trained"]), accuracy)
    Console(width=120).print(table)


def check(attempts: Sequence[dict[str, Any]]) -> None:
    """Compare the attempts with the story."""
    outcomes = [one["outcome"] for one in attempts]
    expect(outcomes == ["stopped", "done", "done", "nothing_new"], f"outcomes {outcomes}")
    stopped, continued, grown, nothing = attempts
    # ckpt_3_63-a1, not ckpt_3-a1
    expect(continued["resumed_from"].count("_") == 2, "the first attempt was not stopped in the middle of an epoch")
    for before, after in pairwise(attempts):
        same = before["last_global_step"] == after["first_global_step"]
        expect(same, f"attempt {after['attempt']} does not begin at the step where the one before it ended")
    num_trained = stopped["num_examples_trained"] + continued["num_examples_trained"]
    expect(num_trained == EPOCHS * NUM_FIRST, f"{num_trained} examples trained, not {NUM_FIRST} in each epoch")
    expect(grown["new_examples"] == NUM_NEW + NUM_NEW_NINES, f"{grown['new_examples']} new examples")
    expect(nothing["num_examples_trained"] == 0, "trained though nothing was new")
    for one in (continued, grown):
        expect(one["accuracy"] > MIN_ACCURACY, f"accuracy on held-out digits is not above {MIN_ACCURACY}")


def expect(condition: bool, otherwise: str) -> None:
    """NotAsToldError unless the condition holds."""
    if not condition:
        raise NotAsToldError(otherwise)


def tell(story: Callable[[], None]) -> None:
    """A story as a program: it exits with 1 when anything in it is not as told."""
    try:
        story()
    except NotAsToldError as error:
        sys.exit(f"NOT AS TOLD: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def say(text: str) -> None:
    """The next part of the story."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    tell(main)
