"""The machine and the versions that a figure was taken with."""

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

SHA_FLAGS = frozenset({"sha_ni", "sha2"})
"""How Linux names the SHA-256 instructions of x86 and of ARM."""


def describe() -> Mapping[str, str | int | float | bool]:
    """What a reader needs in order to compare; `load` is that of the last minute, of everything on the machine."""
    flags = set(_line("/proc/cpuinfo", "flags", "Features").split())
    return {
        "cpu": _line("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "sha_instructions": bool(flags & SHA_FLAGS),
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "load": round(os.getloadavg()[0], 2),
    }


def machine() -> str:
    """The same in a line, for the head of a table."""
    found = describe()
    sha = "with" if found["sha_instructions"] else "without"
    gpu = f", {found['gpu']}" if found["gpu"] else ""
    return (
        f"{found['cores']} cores of {found['cpu']} {sha} SHA instructions, {found['memory_gb']:.0f} GB{gpu}; "
        f"Python {found['python']}, torch {found['torch']}; load {found['load']}"
    )


def _line(path: str, *names: str) -> str:
    """The value of the first line of a file of `name : value` lines that has one of the names; "" for none."""
    if not Path(path).exists():
        return ""
    pairs = (line.partition(":") for line in Path(path).read_text().splitlines())
    return next((value.strip() for name, _, value in pairs if name.strip() in names), "")


def _gpu() -> str:
    """Read from the driver's own files, so that no table has to wait for CUDA; "" for none."""
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return _line(str(found[0]), "Model") if found else ""
