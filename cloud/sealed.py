"""Files that end with their own digest, and the one bounded, schema-checked reader of them."""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pydantic_core
import zstandard
from pydantic import BaseModel, ValidationError

from cloud.errors import Damaged
from cloud.store import Store

MAX_RECORD_BYTES = 16 * 2**20
MAX_LINE_BYTES = 64 * 2**20
MAX_LEDGER_TEXT_BYTES = 8 * 2**30

_SEAL = re.compile(rb', "digest": "sha256:([0-9a-f]{64})"\}\n')
_SEAL_BYTES = len(b', "digest": "sha256:"}\n') + 64

Model = TypeVar("Model", bound=BaseModel)


def seal(content: BaseModel | Mapping[str, Any]) -> bytes:
    """JSON whose last member, `digest`, is the SHA-256 of all bytes before it.

    Raises ValueError for what could not be read back: NaN, lone surrogates, more than 16 MiB.
    """
    plain = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
    body = json.dumps(plain, ensure_ascii=False, allow_nan=False)[:-1].encode()
    sealed = body + b', "digest": "sha256:%b"}\n' % hashlib.sha256(body).hexdigest().encode()
    if len(sealed) > MAX_RECORD_BYTES:
        raise ValueError(f"a record of {len(sealed):,} bytes: more than {MAX_RECORD_BYTES:,} are never read back")
    return sealed


def unseal(data: bytes, model: type[Model]) -> Model:
    """What `seal` was given, as `model`; Damaged for anything that `seal` did not write or `model` does not allow."""
    if len(data) > MAX_RECORD_BYTES:
        raise Damaged(f"more than {MAX_RECORD_BYTES:,} bytes: no record")
    body, end = data[:-_SEAL_BYTES], _SEAL.fullmatch(data[-_SEAL_BYTES:])
    if end is None:
        raise Damaged("does not end with its digest: truncated or damaged")
    if hashlib.sha256(body).hexdigest().encode() != end[1]:
        raise Damaged("its digest differs: damaged")
    try:
        return model.model_validate_json(body + b"}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "its JSON"
        raise Damaged(f"{where}: {first['msg']}") from error


def load(store: Store, key: str, model: type[Model]) -> Model:
    """Read and unseal one file; Damaged says which."""
    try:
        return unseal(store.read(key, 0, MAX_RECORD_BYTES + 1), model)
    except Damaged as error:
        raise Damaged(f"{key}: {error}") from error


def seal_lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON lines in zstd; the last one holds the SHA-256 of all lines before it. ValueError as in `seal`."""
    digest = hashlib.sha256()
    packed = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(packed, closefd=False) as writer:
        for line in lines:
            text = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            if len(text) > MAX_LINE_BYTES:
                raise ValueError(f"a ledger line of {len(text):,} bytes: at most {MAX_LINE_BYTES:,} can be read back")
            digest.update(text)
            writer.write(text)
        writer.write(_last_line(digest.hexdigest()))
    return packed.getvalue()


def unseal_lines(data: bytes) -> Iterator[dict[str, Any]]:
    """What `seal_lines` was given, in bounded memory.

    Damaged comes at the latest after the last line: what was read before it counts only when none came.
    """
    digest = hashlib.sha256()
    waiting = b""
    for text in _text_lines(data):
        if waiting:
            digest.update(waiting)
            yield _parsed(waiting)
        waiting = text
    if waiting != _last_line(digest.hexdigest()):
        raise Damaged("does not end with the digest of its lines: truncated or damaged")


def _last_line(hexdigest: str) -> bytes:
    return b'{"digest": "sha256:%b"}\n' % hexdigest.encode()


def _text_lines(data: bytes) -> Iterator[bytes]:
    """The lines of compressed text; a bomb ends at the bounds, which no ledger reaches."""
    left = MAX_LEDGER_TEXT_BYTES
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader, io.BufferedReader(reader, 2**20) as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                left -= len(line)
                if left < 0 or not line.endswith(b"\n"):
                    raise Damaged("a line or the whole is longer than any ledger's, or it is truncated")
                yield line
    except zstandard.ZstdError as error:
        raise Damaged(f"not zstd: {error}") from error


def _parsed(line: bytes) -> dict[str, Any]:
    # Unlike json.loads this bounds the depth of nesting, so that none can exhaust the stack.
    try:
        parsed = pydantic_core.from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise Damaged(f"a line is no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise Damaged("a line is no JSON object")
    return parsed
