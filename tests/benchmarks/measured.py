"""How one case is measured: seconds, CPU seconds and memory of a function, here or in a fresh process, or of a program.

A case returns figures by name; all have `seconds`, `cpu_seconds` and `peak_bytes`. A function measured may return
figures too: they join these, or replace them (`seconds` of the part that counts).
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Figures = Mapping[str, float]
Case = Callable[[], Figures]
Work = Callable[..., Figures | None]

ERROR_CHARACTERS = 2000


class Unavailable(Exception):
    """What a case needs is not on this machine; the text says what."""


def measured(work: Work, *args: Any) -> Figures:
    """Run `work`; `peak_bytes` is the highest resident memory above what the process had before (0 where unknown)."""
    _forget_peak()
    before, cpu, started = resident("VmRSS"), _cpu_seconds(), time.perf_counter()
    try:
        found = work(*args)
    except ImportError as error:
        raise Unavailable(f"not installed: {error.name}") from error
    seconds = time.perf_counter() - started
    peak = max(0, resident("VmHWM") - before)
    return {"seconds": seconds, "cpu_seconds": _cpu_seconds() - cpu, "peak_bytes": peak, **(found or {})}


def in_child(work: Work, *args: Any, env: Mapping[str, str] | None = None) -> Figures:
    """`measured(work, *args)` in a fresh process; `work` is a function of a module, its arguments are JSON."""
    main = sys.modules["__main__"]
    module = main.__spec__.name if work.__module__ == "__main__" and main.__spec__ else work.__module__
    command = [sys.executable, "-m", "tests.benchmarks.child", f"{module}:{work.__name__}", json.dumps(args)]
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module}:{work.__name__}{args}: {done.stderr[-ERROR_CHARACTERS:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "unavailable" in answer:
        raise Unavailable(answer["unavailable"])
    return dict(answer)


def program(command: Sequence[str], env: Mapping[str, str] | None = None, returns: Sequence[int] = (0,)) -> Figures:
    """A whole program, from its start to its end; `peak_bytes` is all that it had resident."""
    started = time.perf_counter()
    try:
        process = subprocess.Popen(
            command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except FileNotFoundError:
        raise Unavailable(f"not installed: {command[0]}") from None
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode not in returns:
        raise RuntimeError(f"{command[0]}: {said.decode(errors='replace')[-ERROR_CHARACTERS:]}")
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024.0}


def _cpu_seconds() -> float:
    """Of all threads of this process, and of the processes that it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def resident(name: str) -> float:
    """Bytes that a line of /proc/self/status names; 0 where there is no such file."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next((line for line in status.read_text().splitlines() if line.startswith(f"{name}:")), f"{name}: 0 kB")
    return float(line.split()[1]) * 1024


def _forget_peak() -> None:
    """Let VmHWM begin anew (Linux: proc_pid_clear_refs, value 5)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
