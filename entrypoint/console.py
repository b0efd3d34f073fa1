"""What the job says: lines on stdout, warnings and errors on stderr, progress; as text or as JSON."""

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TextIO

LogFormat = Literal["text", "json"]
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")


class Progress(Protocol):
    """Something with an end that one waits for."""

    def update(self, n: int = 1, /) -> object:
        """Another `n` are done. Any thread may say so."""


class Console:
    """One line per event, each flushed at once, so that a log follows the job without PYTHONUNBUFFERED.

    A reader that goes away (a closed pipe) ends the output, never the job.
    """

    def __init__(
        self,
        log_format: LogFormat = "text",
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        line_seconds: float = 30.0,
    ) -> None:
        """`out` and `err` default to stdout and stderr; a progress line comes at most every `line_seconds`."""
        self._json = log_format == "json"
        self._out = sys.stdout if out is None else out
        self._err = sys.stderr if err is None else err
        self._clock = clock
        self._line_seconds = line_seconds
        self._bars = 0

    def line(self, event: str, message: str, /, **fields: Any) -> None:
        """Say `message` about `event` (one word). The fields are for programs: they are shown in JSON only."""
        self._say(self._out, event, f"{event:<12}{message}", message, fields)

    def headline(self, event: str, message: str, /, **fields: Any) -> None:
        """As `line`, but the word begins a sentence instead of a column."""
        self._say(self._out, event, f"{event} {message}", message, fields)

    def table(self, event: str, message: str, lines: Sequence[str], /, **fields: Any) -> None:
        """As `line`, with more lines below the message; in JSON one object, of the message and the fields."""
        self.line(event, message, **fields)
        for line in () if self._json else lines:
            self._write(self._out, f"{'':<12}{one_line(line)}\n")

    def warning(self, text: str, /, **fields: Any) -> None:
        """Something that the job can live with."""
        self._say(self._err, "warning", f"perdure: warning: {text}", text, fields)

    def error(self, text: str, /, **fields: Any) -> None:
        """What the job ends with; each line of `text` is one problem."""
        for line in text.splitlines() or [""]:
            self._say(self._err, "error", f"perdure: error: {line}", line, fields)

    def error_line(self, text: str, exit_code: int) -> str:
        """What `error` would write of one line, for somebody who cannot wait for the streams."""
        if self._json:
            return _json_line("error", text, {"exit_code": exit_code})
        return f"perdure: error: {one_line(text)}"

    def print(self, text: str) -> None:
        """A text that was asked for (--help, --show_settings), as it is, on stdout."""
        self._write(self._out, text if text.endswith("\n") else text + "\n")

    def block(self, text: str) -> None:
        """Several lines (a traceback) on stderr; in JSON one object."""
        if self._json:
            self._say(self._err, "traceback", "", text, {})
        else:
            self._write(self._err, text)

    @contextlib.contextmanager
    def progress(self, total: int | None, description: str, unit: str, *, tells_end: bool = True) -> Iterator[Progress]:
        """A bar on stderr where that is a terminal; otherwise a line now and then, and with `tells_end` a last one.

        `unit` is a plural ("shards"); `total` None where nobody knows it.
        """
        if not self._json and self._err is not None and self._err.isatty():
            with self._bar(total, description, unit) as bar:
                yield bar
            return
        lines = _Lines(self, total, description, unit)
        try:
            yield lines
        finally:
            if tells_end:
                lines.tell()

    def take_logging(self) -> None:
        """Route the warnings of Python and of the packages' loggers through here."""
        logging.captureWarnings(True)
        logging.basicConfig(level=logging.WARNING, handlers=[_Handler(self)], force=True)

    @contextlib.contextmanager
    def _bar(self, total: int | None, description: str, unit: str) -> Iterator[Progress]:
        from tqdm import tqdm

        with tqdm(
            total=total,
            desc=f"{description:<10}",
            unit=f" {unit}",
            unit_scale=unit == "B",
            file=self._err,
            leave=False,
            dynamic_ncols=True,
        ) as bar:
            self._bars += 1
            try:
                yield bar
            finally:
                self._bars -= 1

    def _say(self, stream: TextIO | None, event: str, text: str, message: str, fields: dict[str, Any]) -> None:
        line = _json_line(event, message, fields) if self._json else one_line(text)
        self._write(stream, line + "\n")

    def _write(self, stream: TextIO | None, text: str) -> None:
        if stream is None:  # the descriptor was closed before Python started
            return
        try:
            with self._beside_bars():
                stream.write(_encodable(text, stream))
                stream.flush()
        except (OSError, ValueError):  # nobody reads any longer; ValueError: the stream was closed
            _silence(stream)

    def _beside_bars(self) -> contextlib.AbstractContextManager[None]:
        if not self._bars:
            return contextlib.nullcontext()
        from tqdm import tqdm

        return tqdm.external_write_mode()


class _Lines:
    """Progress where there is no terminal."""

    def __init__(self, console: Console, total: int | None, description: str, unit: str) -> None:
        self._console = console
        self._of = f" of {total}" if total is not None else ""
        self._description = description
        self._unit = unit
        self._num_done = 0
        self._total = total
        self._said_at = console._clock()

    def update(self, n: int = 1, /) -> None:
        self._num_done += n
        now = self._console._clock()
        if now - self._said_at >= self._console._line_seconds and self._num_done != self._total:
            self._said_at = now
            self.tell()

    def tell(self) -> None:
        message = f"{self._num_done}{self._of} {self._unit}"
        self._console.line(self._description, message, num_done=self._num_done, num_total=self._total)


class _Handler(logging.Handler):
    """Python's logging -> the console's warnings."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if text not in self._told:  # every listing meets the same odd names
            self._told.add(text)
            self._console.warning(text, logger=record.name)


def one_line(text: str) -> str:
    """`text` with its control characters escaped: a shard named "a\\nb" cannot fake a line of the log."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def _json_line(event: str, message: str, fields: dict[str, Any]) -> str:
    from pydantic_core import to_jsonable_python  # unlike json: NaN becomes null, and paths and dates are known

    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "event": event, "message": message, **fields}
    return json.dumps(to_jsonable_python(line, inf_nan_mode="null", fallback=str))


def _encodable(text: str, stream: TextIO) -> str:
    """File names that are no UTF-8 carry lone surrogates, and not every terminal is UTF-8."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _silence(stream: TextIO) -> None:
    """Send what still comes to nowhere; a task's print would else fail, or the interpreter's last flush (exit 120)."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
