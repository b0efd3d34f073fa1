"""Submitting the job as a user does: as a process, over and over, killed now and then."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloud.folder import OutputFolder
from cloud.store import Store
from tests.shards import digits, write_tar

LIMIT_SECONDS = 120
TINY = ("--task", "images", "--set", "image_size=8", "--set", "channels=1", "--set", "width=8", "--set", "stages=1")


@dataclass(frozen=True)
class Finished:
    """A submission that ended. `code` is negative when a signal ended it."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """The same job at every submission. `scratch` is an existing folder: the temporary folder of its processes, where
    nothing lies that other tests fetched.
    """

    data_url: str
    train_url: str
    scratch: Path
    arguments: Sequence[str] = TINY
    env: Mapping[str, str] | None = None

    def start(self, *more: str) -> subprocess.Popen[str]:
        """One submission, running."""
        urls = ("--data_url", self.data_url, "--train_url", self.train_url)
        command = [sys.executable, "-m", "entrypoint", *urls, *self.arguments, *more]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.scratch), **(self.env or {})}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    def submit(self, *more: str) -> Finished:
        """One submission, to its end."""
        with self.start(*more) as process:
            out, err = process.communicate(timeout=LIMIT_SECONDS)
        return Finished(process.returncode, out, err)

    def submit_and_signal(self, number: signal.Signals, seconds: float) -> Finished:
        """One submission that gets a signal after so many seconds, if it runs that long."""
        with self.start() as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                out, err = process.communicate(timeout=LIMIT_SECONDS)
        return Finished(process.returncode, out, err)

    def stop_when(self, text: str, number: signal.Signals = signal.SIGTERM) -> Finished:
        """One submission that gets a signal a moment after it printed a line that begins with `text`."""
        with self.start() as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith(text):
                    time.sleep(0.05)
                    process.send_signal(number)
                    break
            out, err = process.communicate(timeout=LIMIT_SECONDS)
        return Finished(process.returncode, "".join(lines) + out, err)


def make_data(folder: Path) -> None:
    """Shards of real digits: in data/ three and one for evaluation, in more/ what is appended, with a new label."""
    images, labels = digits()
    old, new = np.flatnonzero(labels < "6")[:400], np.flatnonzero(labels == "6")[:60]
    for number, part in enumerate(np.array_split(old[:300], 3)):
        write_tar(folder / "data" / f"{number}.tar", images[part], labels[part])
    write_tar(folder / "data" / "eval" / "0.tar", images[old[300:]], labels[old[300:]])
    for number, part in enumerate(np.array_split(new[:40], 2)):
        write_tar(folder / "more" / f"new-{number}.tar", images[part], labels[part])
    write_tar(folder / "more" / "eval" / "6.tar", images[new[40:]], labels[new[40:]])


def append(folder: Path) -> None:
    """The new shards arrive."""
    shutil.copytree(folder / "more", folder / "data", dirs_exist_ok=True)


def newest(store: Store) -> dict[str, Any]:
    """The content of the newest checkpoint."""
    record = OutputFolder(store).records()[0]
    content = torch.load(io.BytesIO(store.read(record.object.key)), weights_only=True)
    assert isinstance(content, dict)
    return content


def attempts(store: Store) -> list[dict[str, Any]]:
    """What the attempts say of themselves, oldest first."""
    keys = [entry.key for entry in store.list("attempts/") if entry.key.endswith(".json")]
    return [json.loads(store.read(key)) for key in keys]


def assert_same_training(one: Store, other: Store) -> None:
    """The newest checkpoints agree bit for bit in network and optimizer, and in what was trained."""
    first, second = newest(one), newest(other)
    _assert_equal(first["net"], second["net"], "net")
    _assert_equal(first["optimizer"], second["optimizer"], "optimizer")
    counts = ("round", "epoch", "global_step", "num_examples", "example", "loss_sum", "best")
    assert [first["progress"][name] for name in counts] == [second["progress"][name] for name in counts]


def _assert_equal(one: Any, other: Any, where: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            _assert_equal(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            _assert_equal(left, right, f"{where}.{place}")
    else:
        assert one == other, where
