"""How a process that is measured tells when its second step has ended. Imports nothing that takes time."""

import os
import signal
import time
from pathlib import Path


def report_and_stop(path: Path) -> None:
    """Write the seconds since this process began, and ask it to stop."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    began = ticks / os.sysconf("SC_CLK_TCK")
    path.write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME) - began))
    os.kill(os.getpid(), signal.SIGTERM)
