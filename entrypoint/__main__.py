"""Command line and environment in, exit code out: the only sys.exit and the only broad except."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from entrypoint.stop import Stop

if TYPE_CHECKING:
    from entrypoint.config import Invocation
    from entrypoint.console import Console
    from entrypoint.settings import JobConfig


def main(argv: Sequence[str] | None = None, root: Path = Path("/")) -> int:
    """Run one command and return the exit code of the process, whose signals it takes over for good.

    `argv` defaults to the command line; below `root` the files of the platforms are looked for.
    """
    stop = Stop()
    stop.install()  # before anything that takes time: a signal during the imports counts
    from entrypoint.console import Console
    from entrypoint.exits import report, submitted_code

    console, config = Console(), None
    try:
        from entrypoint.config import read, tell_libraries

        invocation = read(argv, root=root)
        if invocation.answer is not None:
            console.print(invocation.answer)
            return 0
        if invocation.shows_settings:
            console.print(invocation.table())
        config = invocation.config()
        tell_libraries(config)
        console = Console(config.log_format)
        code = 0 if invocation.shows_settings else _run(invocation, config, stop, console)
        code = submitted_code(code, config.retry_exit_code)
    except BaseException as error:  # noqa: BLE001 - a task's exit(0) is no success, and a panic in Rust no Exception
        from entrypoint.platforms import failure_file

        debug, retry = (config.debug, config.retry_exit_code) if config else (False, None)
        code = report(error, console, debug=debug, failure_file=failure_file(root), retry_exit_code=retry)
    return code


def _run(invocation: "Invocation", config: "JobConfig", stop: Stop, console: "Console") -> int:
    console.take_logging()
    stop.limit(config.max_run_seconds)
    stop.shown = console.error_line
    if config.retry_exit_code is not None:
        stop.leave_with(config.retry_exit_code)
    for warning in invocation.warnings:
        console.warning(warning)
    stop.check()
    with stop.grace(config.grace_seconds):
        return invocation.command.run(config, stop, console)


if __name__ == "__main__":
    sys.exit(main())
