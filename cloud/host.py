"""Which process on which machine this is, and whether another one is certainly gone."""

import os
import socket
from pathlib import Path

from cloud.records import Host

_PROC = Path("/proc")
_STATE, _START_TICKS = 0, 19


def this_host() -> Host:
    """The present process; what the system does not tell (no /proc) is None."""
    pid = os.getpid()
    fields = _stat(pid)
    return Host(
        boot_id=_boot_id(),
        pid_namespace=_pid_namespace(),
        pid=pid,
        start_ticks=int(fields[_START_TICKS]) if fields else None,
        name=_host_name(),
    )


def is_gone(host: Host) -> bool:
    """Whether that process ran on this machine and has ended. False when it cannot be known.

    The same machine is the same boot *and* the same pid namespace: containers reuse pid 1 and host names.
    """
    here = (_boot_id(), _pid_namespace())
    if None in here or here != (host.boot_id, host.pid_namespace) or host.start_ticks is None:
        return False
    fields = _stat(host.pid)
    if not fields:
        return not _answers(host.pid)
    # A zombie has ended too: in a container often nobody collects it.
    return fields[_STATE] in ("Z", "X") or int(fields[_START_TICKS]) != host.start_ticks


def _answers(pid: int) -> bool:
    """Whether the kernel knows the process; /proc may hide those of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _boot_id() -> str | None:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip() or None
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before it may hold blanks and parentheses.

    Empty where there is no such process, or no /proc.
    """
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _host_name() -> str:
    # A host name can hold any bytes; a lone surrogate could not be written as UTF-8.
    return socket.gethostname().encode(errors="replace").decode()[:255]
