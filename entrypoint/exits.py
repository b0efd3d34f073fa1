"""Exception -> exit code, and the one line that explains it. Imports nothing heavy: early errors come fast."""

import contextlib
import errno
import traceback
from enum import IntEnum
from pathlib import Path

from cloud.errors import CacheTooSmall, ClaimError, Damaged, StoreError, UrlError
from entrypoint.console import Console
from entrypoint.errors import SettingsError, Stopped
from trainer.errors import CheckpointError, DataError, Incompatible, NonFinite, SettingError

MAX_FAILURE_CHARS = 1024
"""SageMaker shows this much of its failure file."""


class ExitCode(IntEnum):
    """The contract with whoever submits the job again."""

    DONE = 0
    BAD_DATA = 65
    UNFORESEEN = 70
    STORE = 74
    HELD = 75
    BAD_SETTINGS = 78
    STOPPED = 143


_CODES: tuple[tuple[tuple[type[BaseException], ...], ExitCode], ...] = (
    ((SettingsError, SettingError, Incompatible, UrlError, CacheTooSmall), ExitCode.BAD_SETTINGS),
    ((Damaged, DataError, CheckpointError, NonFinite), ExitCode.BAD_DATA),
    ((StoreError, ConnectionError, TimeoutError), ExitCode.STORE),
    ((ClaimError,), ExitCode.HELD),
    ((Stopped, KeyboardInterrupt), ExitCode.STOPPED),
)

_RETRYABLE = (ExitCode.STORE, ExitCode.HELD, ExitCode.STOPPED)

# A disk or a mounted bucket that is full, read-only, forbidden or gone. Other OSErrors (a file that should be there
# and is not) are ours to explain, and end as unforeseen where we did not.
_STORE_ERRNOS = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE,
        errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH,
        errno.ENETDOWN,
    }
)  # fmt: skip


def exit_code(error: BaseException, retry_exit_code: int | None = None) -> int:
    """The exit code of DESIGN section 7 for what a job died of."""
    return submitted_code(_exit_code(error), retry_exit_code)


def submitted_code(code: int, retry_exit_code: int | None) -> int:
    """`code`, or `retry_exit_code` in the place of the codes that ask for another submission."""
    return retry_exit_code if retry_exit_code is not None and code in _RETRYABLE else int(code)


def explain(error: BaseException) -> str:
    """What happened, where, and what to do; one line per problem."""
    code = _exit_code(error)
    if code == ExitCode.STOPPED:
        return f"stopped by {error or 'SIGINT'}: submit again to continue"
    if code == ExitCode.UNFORESEEN:
        notes = "".join(f" ({_first_line(note)})" for note in getattr(error, "__notes__", ()))
        text = f"{_first_line(str(error))}{notes}"  # the traceback has the rest
        return f"unforeseen {type(error).__name__}: {text}; submit again, and report the traceback if it comes back"
    if isinstance(error, OSError):
        return _explain_os_error(error)
    return str(error) or type(error).__name__


def report(
    error: BaseException,
    console: Console,
    *,
    debug: bool,
    failure_file: Path | None,
    retry_exit_code: int | None = None,
) -> int:
    """Say what happened on stderr and in the platform's failure file, and give the code that the process exits with.

    A traceback only with `debug` or for what is unforeseen.
    """
    code = exit_code(error, retry_exit_code)
    if debug or _exit_code(error) == ExitCode.UNFORESEEN:
        console.block("".join(traceback.format_exception(error)))
    text = explain(error)
    console.error(text, exit_code=code)
    if failure_file is not None:
        with contextlib.suppress(OSError):  # nothing is left to tell it to
            failure_file.write_text(text[:MAX_FAILURE_CHARS], encoding="utf-8", errors="backslashreplace")
    return code


def _exit_code(error: BaseException) -> ExitCode:
    for types, code in _CODES:
        if isinstance(error, types):
            return code
    if isinstance(error, OSError) and error.errno in _STORE_ERRNOS:
        return ExitCode.STORE
    return ExitCode.UNFORESEEN


def _explain_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; free or repair it, then submit again"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
