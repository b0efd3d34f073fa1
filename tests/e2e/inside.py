"""Submitting the job inside the test's process, where torch is imported once and a submission takes 0.1 s."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entrypoint.__main__ import main
from tests.shards import digits, write_tar

IMAGES = (
    "--task", "images", "--epochs", "1",
    "--set", "image_size=8", "--set", "channels=1", "--set", "width=4", "--set", "stages=1", "--set", "blocks=1",
)  # fmt: skip
POINTS = ("--task", f"{Path(__file__).with_name('points.py')}:Points", "--epochs", "2")


@dataclass(frozen=True)
class Said:
    """What one submission said, and what its attempt's file says: {} where there is none."""

    code: int
    out: str
    err: str
    outcome: Mapping[str, Any]

    @property
    def error(self) -> str:
        """The text of its one error, which is all that stderr holds."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("perdure: error: "), self.err
        return lines[0].removeprefix("perdure: error: ")


@dataclass
class Inside:
    """A folder `data`, a folder `run`, and the same job at every submission."""

    data: Path
    run: Path
    capfd: pytest.CaptureFixture[str]
    arguments: Sequence[str] = IMAGES

    def submit(self, *more: object, data: object = None, run: object = None) -> Said:
        """One submission; `data` and `run` are other URLs than the usual."""
        urls = ("--data_url", data or self.data, "--train_url", run or self.run)
        before = set(self._attempts())
        self.capfd.readouterr()
        code = main([str(word) for word in (*urls, *self.arguments, *more)], root=self.data.parent / "no platform")
        out, err = self.capfd.readouterr()
        new = sorted(set(self._attempts()) - before)
        return Said(code, out, err, json.loads(new[-1].read_text()) if new else {})

    def trained(self, *more: object) -> Said:
        """A submission that must end well."""
        said = self.submit(*more)
        assert said.code == 0, said.err
        return said

    def refused(self, code: int, *more: object, data: object = None, run: object = None) -> str:
        """A submission that must end with this code, one line, and an outcome that says so: the text of the line."""
        checkpoints = self.checkpoints()
        said = self.submit(*more, data=data, run=run)
        assert said.code == code, said.err
        text = said.error
        if said.outcome:
            told = (said.outcome["outcome"], said.outcome["exit_code"], said.outcome["error"])
            assert told == ("failed", code, text)
        assert self.checkpoints() == checkpoints, "nothing is lost"
        return text

    def checkpoints(self) -> dict[str, bytes]:
        """The content of every checkpoint, record and object, by name."""
        return {path.name: path.read_bytes() for path in self.run.glob("ckpt_*")}

    def _attempts(self) -> list[Path]:
        return list(self.run.glob("attempts/*.json"))


def write_digits(path: Path, start: int, stop: int) -> Path:
    """A shard of some of the handwritten digits."""
    images, labels = digits()
    return write_tar(path, images[start:stop], labels[start:stop])


def write_points(path: Path, start: int, stop: int) -> Path:
    """A shard of points for the tasks in `points.py`, numbered in their keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(number, np.random.default_rng(number).normal(size=2).round(3).tolist()) for number in range(start, stop)]
    lines = [json.dumps({"id": str(number), "x": x, "y": "ab"[x[0] > 0]}) for number, x in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def copy_without_times(source: Path, target: Path) -> None:
    """Copy a folder as platforms do: the same bytes, other times, other inodes."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
