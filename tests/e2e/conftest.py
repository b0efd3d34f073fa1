"""A job inside the test's process, and the process as it was afterwards."""

import logging
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.inside import POINTS, Inside, write_digits, write_points
from tests.e2e.noted import ARGUMENTS, Bench


@pytest.fixture
def job(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    """Task `images` over two shards of handwritten digits."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for name in ("0.tar", "1.tar"):
        start = 20 * int(name[0])
        write_digits(tmp_path / "data" / name, start, start + 20)
    yield Inside(tmp_path / "data", tmp_path / "run", capfd)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.captureWarnings(False)


@pytest.fixture
def points_job(job: Inside) -> Inside:
    """Task `Points` of `points.py`, whose examples have keys, over two shards."""
    for path in job.data.iterdir():
        path.unlink()
    write_points(job.data / "a.jsonl", 0, 20)
    write_points(job.data / "b.jsonl", 20, 40)
    job.arguments = POINTS
    return job


@pytest.fixture
def bench(job: Inside) -> Bench:
    """Task `Noted` of `noted.py`, no shards yet."""
    for path in job.data.iterdir():
        path.unlink()
    job.arguments = ARGUMENTS
    return Bench(job)
