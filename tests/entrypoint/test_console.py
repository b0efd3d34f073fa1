import io
import json
import math
import os
import pty
import subprocess
import sys
import termios
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.console import Console, one_line


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def streams():
    return io.StringIO(), io.StringIO()


def test_text_is_in_columns(streams):
    out, err = streams
    console = Console(out=out, err=err)
    console.headline("attempt", "3 of ./run   task images", attempt=3)
    console.line("checkpoint", "ckpt_6-a2 (epoch 6, step 186)  verified", epoch=6)
    console.line("data", "8 shards as before")
    console.warning("mind the gap")
    console.error("one\ntwo")
    assert out.getvalue().splitlines() == [
        "attempt 3 of ./run   task images",
        "checkpoint  ckpt_6-a2 (epoch 6, step 186)  verified",
        "data        8 shards as before",
    ]
    assert err.getvalue().splitlines() == [
        "perdure: warning: mind the gap",
        "perdure: error: one",
        "perdure: error: two",
    ]


def test_json_is_one_object_per_line(streams):
    out, err = streams
    console = Console("json", out=out, err=err)
    console.line("data", "a shard\udc80", loss=math.nan, path=Path("/x"), labels=["é"], error=ValueError("no"))
    console.warning("mind the gap", shard="a")
    line = json.loads(out.getvalue())
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "event": "data", "message": "a shard\udc80", "loss": None, "path": "/x", "labels": ["é"], "error": "no",
    }  # fmt: skip
    assert json.loads(err.getvalue())["event"] == "warning"


@given(st.text())
def test_no_text_makes_a_second_line(text):
    out = io.StringIO()
    Console(out=out).line("data", text)
    assert len(out.getvalue().splitlines()) == 1
    assert one_line(one_line(text)) == one_line(text)


def test_a_stream_that_is_no_unicode_gets_escapes():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(out=stream).line("data", "é\udc80")
    assert raw.getvalue() == b"data        \\xe9\\udc80\n"


def test_progress_in_lines(streams):
    out, err = streams
    clock = Clock()
    console = Console(out=out, err=err, clock=clock)
    with console.progress(12, "census", "shards") as progress:
        for _ in range(12):
            clock.now += 12
            progress.update()
    assert out.getvalue().splitlines() == [
        "census      3 of 12 shards",
        "census      6 of 12 shards",
        "census      9 of 12 shards",
        "census      12 of 12 shards",
    ]


def test_progress_says_how_far_it_came(streams):
    out, err = streams
    console = Console("json", out=out, err=err)
    with pytest.raises(RuntimeError), console.progress(None, "fetch", "bytes") as progress:
        progress.update(7)
        raise RuntimeError
    line = json.loads(out.getvalue())
    assert (line["event"], line["message"], line["num_done"], line["num_total"]) == ("fetch", "7 bytes", 7, None)


def test_a_terminal_gets_a_bar_that_lines_do_not_disturb():
    leader, follower = pty.openpty()
    os.set_blocking(leader, False)
    termios.tcsetwinsize(follower, (24, 80))
    out = io.StringIO()
    with os.fdopen(follower, "w") as err:
        console = Console(out=out, err=err)
        with console.progress(3, "census", "shards") as progress:
            progress.update()
            console.line("data", "3 shards")
            progress.update(2)
        shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert "census" in shown
    assert "0/3" in shown
    assert out.getvalue() == "data        3 shards\n"


def test_the_warnings_of_packages_come_through():
    code = """
import logging, sys, warnings
from entrypoint.console import Console
Console("json").take_logging()
logging.getLogger("some.package").warning("two\\nlines of %s", "it")
logging.getLogger("some.package").warning("two\\nlines of %s", "it")
logging.getLogger("some.package").info("chatter")
warnings.warn("old", DeprecationWarning)
warnings.warn("mind")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (lines[0]["event"], lines[0]["message"], lines[0]["logger"]) == (
        "warning",
        "two lines of it",
        "some.package",
    )
    assert [line["message"] for line in lines].count("two lines of it") == 1
    assert "mind" in lines[-1]["message"]
    assert not any("chatter" in line["message"] for line in lines)


@pytest.mark.parametrize("redirection", ["| true", ">&-", "> /dev/full"])
def test_output_that_goes_nowhere_does_not_end_the_job(redirection, tmp_path):
    code = f"""
import pathlib, time
from entrypoint.console import Console
console = Console()
for _ in range(20):
    console.line("data", "x" * 10000)
    time.sleep(0.01)
print("of a task, and left to the interpreter to flush")
pathlib.Path({str(tmp_path / "done")!r}).write_text("yes")
"""
    command = f'"$0" -c "$1" {redirection}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", command, sys.executable, code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").exists()
