"""Checking what decides nothing about training: attempts, metrics, the exported model; and naming what is not ours."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pydantic_core

from cloud.errors import Damaged
from cloud.findings import DAMAGED, GONE, NOT_OURS, OK, RUNNING, Finding, judged
from cloud.names import ATTEMPTS, CheckpointName, attempt_key, claimed_attempt, writing_attempt
from cloud.records import AttemptFile, Record
from cloud.sealed import load
from cloud.store import Entry, Store
from cloud.survey import Survey, passed_over
from cloud.transfer import Digester, digest_object
from cloud.verifying import size_difference, twice

MODEL = "model/"
MODEL_CONFIG = "model/config.json"
MAX_CONFIG_BYTES = 1 + 256 * 2**20
MAX_METRICS_BYTES = 2**30

_LIFE = re.compile(rb"[1-9][0-9]{0,14}\n")


def check_views(
    store: Store,
    found: Survey,
    entries: Mapping[str, Entry],
    records: Sequence[Record],
    check: Callable[[], None],
) -> Iterator[Finding]:
    """One finding for each file that is neither a checkpoint nor a ledger; a good sign of life is not worth one."""
    is_running = False
    for key in entries:
        check()
        if (number := claimed_attempt(key)) is not None:
            finding = _attempt(store, key, number)
            is_running = finding.state == RUNNING
            yield finding
        elif key.startswith(ATTEMPTS):
            yield from (one for one in [judged(key, partial(_life, store, key))] if one.is_bad)
        elif (number := writing_attempt(key)) is not None and key.startswith("metrics/"):
            yield judged(key, partial(_metrics, store, key, number, records))
    yield from _gaps(sorted({number for key in entries if (number := claimed_attempt(key)) is not None}))
    if any(key.startswith(MODEL) for key in entries):
        finding = judged(MODEL_CONFIG, partial(_model, store, check))
        if finding.is_bad and (is_running or _has_more_attempts(store, entries)):
            finding = Finding(MODEL_CONFIG, RUNNING, f"{finding.detail}; or it is being written: look again later")
        yield finding
    for one in passed_over(found, None):
        if CheckpointName.parse(one.name) is None:  # those are named as left over already
            yield Finding(one.name, NOT_OURS, one.reason)


def _attempt(store: Store, key: str, number: int) -> Finding:
    try:
        file = twice(lambda: load(store, key, AttemptFile))
    except (Damaged, FileNotFoundError) as error:
        return Finding(key, DAMAGED, str(error))
    if file.attempt != number:
        return Finding(key, DAMAGED, f"the claim of attempt {file.attempt}")
    if file.outcome is None:
        return Finding(key, RUNNING, f"on {file.host.name}, or killed: it has no outcome")
    return Finding(key, OK, file.outcome.replace("_", " "))


def _has_more_attempts(store: Store, entries: Mapping[str, Entry]) -> bool:
    """Whether a job was submitted since `entries` were listed."""
    return any(entry.key not in entries for entry in store.list(ATTEMPTS))


def _gaps(numbers: Sequence[int]) -> Iterator[Finding]:
    """Numbers are dense, and no attempt removes a claim: somebody did."""
    for before, after in pairwise([0, *numbers]):
        if after > before + 1:
            last = f" to {attempt_key(after - 1)}" if after > before + 2 else ""
            yield Finding(f"{attempt_key(before + 1)}{last}", GONE, "removed by somebody, or never made")


def _life(store: Store, key: str) -> str:
    def read() -> None:
        if not _LIFE.fullmatch(store.read(key, 0, 64)):
            raise Damaged(f"{key}: no counter")

    twice(read)
    return ""


def _metrics(store: Store, key: str, number: int, records: Sequence[Record]) -> str:
    """Each line is of that attempt, and agrees with the record of its epoch."""
    epochs = {record.epoch: record for record in records if record.attempt == number and record.whole_epoch}
    *lines, rest = twice(lambda: store.read(key, 0, MAX_METRICS_BYTES)).split(b"\n")
    if rest:
        raise Damaged(f"{key}: the last line has no end: truncated or damaged")
    for place, line in enumerate(lines, 1):
        plain = parsed(f"{key} line {place}", line)
        record = epochs.get(plain.get("epoch", 0)) if "attempt" in plain else None
        told = plain.get("global_step"), plain.get("metrics")
        if record and plain.get("kind") == "round":  # which repeats a part of what its last epoch's line says
            told = told[0], record.metrics
        if plain.get("attempt", number) != number or (record and told != (record.global_step, record.metrics)):
            raise Damaged(f"{key}: line {place} is not what attempt {number} wrote: damaged")
    return f"{len(lines)} lines"


def _model(store: Store, check: Callable[[], None]) -> str:
    config = twice(lambda: whole_model(store, check))
    return f"epoch {config.get('epoch')}, step {config.get('global_step')}"


def whole_model(store: Store, check: Callable[[], None]) -> dict[str, Any]:
    """What `model/config.json` says; Damaged or FileNotFoundError unless it and the weights it names are whole."""
    config = parsed(MODEL_CONFIG, store.read(MODEL_CONFIG, 0, MAX_CONFIG_BYTES))
    if config.pop("digest", None) != config_digest(config):
        raise Damaged(f"{MODEL_CONFIG}: its digest differs: damaged")
    weights = config["weights"]
    file, size = f"{MODEL}{weights['file']}", int(weights["size"])
    if (found := store.stat(file).size) != size:
        raise Damaged(f"{file}: {size_difference(found, size)}")
    digester = Digester()
    digest_object(store, file, size=size, digester=digester, check=check)
    if digester.sha256() != weights["sha256"]:
        raise Damaged(f"{file}: its digest is not that in config.json: damaged")
    return config


def config_digest(config: Mapping[str, Any]) -> str:
    """The digest of what `model/config.json` says but for `digest`, however it is laid out."""
    text = json.dumps(config, ensure_ascii=False, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def parsed(where: str, text: bytes) -> dict[str, Any]:
    """A JSON object; Damaged says where there is none."""
    try:
        plain = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise Damaged(f"{where}: no JSON: {error}") from error
    if not isinstance(plain, dict):
        raise Damaged(f"{where}: no JSON object")
    return plain
