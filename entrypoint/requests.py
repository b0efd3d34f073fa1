"""Requests for a trained model, read line by line in bounded memory."""

import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cloud.scratch import scratch_directory
from cloud.transfer import Digester, fetch, file_errors
from entrypoint.errors import SettingsError
from entrypoint.output import STANDARD, place_of
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.compressed import SUFFIXES, open_shard
from trainer.errors import DataError

CHUNK_BYTES = 2**16
MAX_LINE_BYTES = 2**24
_WAIT_SECONDS = 0.2


Read = Callable[[int], bytes]


class Request(NamedTuple):
    """What a line asks, and the number of the line, from 1."""

    line: int
    fields: dict[str, Any]


class Requests:
    """The lines of `--input`: JSON objects, or plain text in a .txt; on stdin what begins with "{" is JSON."""

    def __init__(self, config: JobConfig, field: str, stop: Stop) -> None:
        """`field`: what a line of plain text is, in a request."""
        self.name = "stdin" if config.input == STANDARD else config.input
        self._config, self._field, self._stop = config, field, stop

    def batches(self) -> Iterator[list[Request]]:
        """The requests that can be read without waiting, up to CHUNK_BYTES of them, then the next.

        DataError, with the number of the line, for one that cannot be read.
        """
        number, rest = 0, b""
        with self._opened() as read:
            while chunk := self._chunk(read):
                *lines, rest = (rest + chunk).split(b"\n")
                yield self._requests(number, lines)
                number += len(lines)
                if len(rest) > MAX_LINE_BYTES:
                    raise self.fault(number + 1, f"is longer than {MAX_LINE_BYTES} bytes")
        yield self._requests(number, [rest])

    def fault(self, line: int, reason: str) -> DataError:
        """What to raise about a line."""
        return DataError(f"{self.name}: line {line}: {reason}; mend it, and run this again")

    def _requests(self, before: int, lines: list[bytes]) -> list[Request]:
        numbered = ((number, line.strip()) for number, line in enumerate(lines, start=before + 1))
        return [Request(number, self._parsed(number, line)) for number, line in numbered if line]

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise self.fault(number, f"is not UTF-8: byte {error.start + 1}") from error
        if self._is_plain(text):
            return {self._field: text}
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.fault(number, f"is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise self.fault(number, f'is no JSON object, such as {{"{self._field}": ...}}')
        return fields

    def _is_plain(self, text: str) -> bool:
        name = Path(self.name)
        if self._config.input == STANDARD:
            return not text.startswith("{")
        return (name.with_suffix("") if name.suffix in SUFFIXES else name).suffix == ".txt"

    @contextmanager
    def _opened(self) -> Iterator[Read]:
        if self._config.input == STANDARD:
            yield partial(os.read, sys.stdin.fileno())
            return
        with scratch_directory() as scratch:
            path = self._local(scratch)
            with file_errors(path), open_shard(path, sys.maxsize) as stream:
                yield stream.read

    def _chunk(self, read: Read) -> bytes:
        if self._config.input == STANDARD:
            while not select.select([sys.stdin], [], [], _WAIT_SECONDS)[0]:
                self._stop.check()  # a read would wait for a line whatever signal came
        self._stop.check()
        try:
            return read(CHUNK_BYTES)
        except ValueError as error:  # compressed bytes that are damaged
            raise DataError(f"{self.name}: cannot be read: {error}") from error

    def _local(self, scratch: Path) -> Path:
        """The input as a local file."""
        if "://" not in self._config.input:
            path = Path(self._config.input)
            if not path.is_file():
                raise SettingsError(f"--input {path}: no such file; name a file, a URL, or - for stdin")
            return path
        store, key = place_of(self._config, self._config.input, writable=False)
        path = store.local_path(key) or scratch / Path(key).name
        if path.parent == scratch:
            try:
                size = store.stat(key).size
            except FileNotFoundError as error:
                raise SettingsError(f"--input {self._config.input}: no such object; mend the URL") from error
            fetch(store, key, path, size=size, digester=Digester(), check=self._stop.check)
        return path
