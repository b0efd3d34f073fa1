"""The one reading of a new shard: how many examples, of which labels, which are bad, which are held out."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from trainer.errors import BadExample, DataError, SettingError, reason
from trainer.ledger import Shard
from trainer.task import UNREADABLE, Task


@dataclass(frozen=True, kw_only=True)
class CensusRules:
    """How bad examples are taken, and what share of a training shard is held out for evaluation."""

    on_bad_example: Literal["fail", "skip"] = "fail"
    max_bad_examples: int = 100
    eval_fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class _Usable:
    """What the census notes of one usable example."""

    index: int
    label: str
    key: str | None
    held_out: bool


def take_census(
    task: Task, examples: Sequence[Any], shard: Shard, rules: CensusRules, check: Callable[[], None]
) -> Shard:
    """`shard` (key, size, digest, split) with what its examples are; DataError when it is empty or a bad one counts.

    Reads every example once, so that what is bad is known before the first step, and alike on every rank and resume.
    `check` is called before each and may raise, for a stop.
    """
    if not len(examples) and not getattr(examples, "resources", ()):
        raise DataError(f"{shard.key}: holds no examples; remove it")
    bad: list[tuple[int, str]] = []
    usable: list[_Usable] = []
    fraction = rules.eval_fraction if shard.split == "train" else 0.0
    for index in range(len(examples)):
        check()
        try:
            example = examples[index]
            usable.append(_note(task, index, example, fraction))
        except UNREADABLE as error:
            bad.append((index, _reason(shard.key, index, error, rules)))
    return _summary(shard, len(examples), usable, bad)


def _note(task: Task, index: int, example: Any, fraction: float) -> _Usable:
    held_out = fraction > 0 and content_share(example) < fraction
    key, label = _text(task, "key", task.key(example)), _text(task, "label", task.label(example))
    digest = None if key is None else hashlib.sha256(key.encode()).hexdigest()[:16]
    return _Usable(index=index, label=label or "", key=digest, held_out=held_out)


def _text(task: Task, method: str, value: Any) -> str | None:
    """SettingError for a label or key that is no text: out of the ledger it would come back as another one."""
    if value is not None and not isinstance(value, str):
        name = type(task).__name__
        raise SettingError(f"task {name}: {method}() returned {value!r}, expected a str or None; mend the task")
    return value


def _reason(key: str, index: int, error: Exception, rules: CensusRules) -> str:
    where = str(error) if isinstance(error, BadExample) else f"example {index}: {reason(error)}"
    if rules.on_bad_example == "fail":
        raise DataError(f"{key}: {where}; mend it, or pass over such examples with --on_bad_example skip") from error
    return where


def _summary(shard: Shard, num_read: int, usable: Sequence[_Usable], bad: Sequence[tuple[int, str]]) -> Shard:
    used = [one for one in usable if not one.held_out]
    held = [one for one in usable if one.held_out]
    keys = tuple(one.key for one in used if one.key is not None)
    return replace(
        shard,
        num_read=num_read,
        num_examples=len(used),
        labels=dict(sorted(Counter(one.label for one in used).items())),
        bad=tuple(bad),
        held_out=tuple(one.index for one in held),
        held_out_labels=dict(sorted(Counter(one.label for one in held).items())),
        keys=keys if used and len(keys) == len(used) else None,
    )


def against_earlier(task: Task, examples: Sequence[Any], shard: Shard, earlier: Shard) -> Shard:
    """An edited shard: only examples whose key the earlier version did not have are this round's.

    DataError when the task gives no key per example, so that they cannot be told apart.
    """
    if shard.split != "train":
        return shard
    if any(one.keys is None and one.num_examples for one in (shard, earlier)):
        raise DataError(f"{shard.key}: changed, and its examples have no keys to compare; add a new shard instead")
    before = frozenset(earlier.keys or ())
    indices = usable_indices(shard)
    keys = shard.keys or ()
    new = tuple(int(index) for index, key in zip(indices, keys, strict=True) if key not in before)
    labels = Counter(task.label(examples[index]) or "" for index in new)
    vanished = len(before - frozenset(keys))
    return replace(shard, new=new, new_labels=dict(sorted(labels.items())), num_vanished=vanished)


def usable_indices(shard: Shard) -> np.ndarray:
    """Indices of the examples that are neither bad nor held out, int64 of shape (num_examples,)."""
    left_out = [index for index, _ in shard.bad] + list(shard.held_out)
    return np.setdiff1d(np.arange(shard.num_read), np.array(left_out, dtype=np.int64), assume_unique=True)


def check_bad_examples(shards: Sequence[Shard], rules: CensusRules) -> int:
    """How many examples are passed over; DataError when there are more than allowed, also by an index's word."""
    num_bad = sum(len(shard.bad) for shard in shards)
    limit = rules.max_bad_examples if rules.on_bad_example == "skip" else 0
    if num_bad > limit:
        key, (_, reason) = next((shard.key, shard.bad[0]) for shard in shards if shard.bad)
        if not limit:
            raise DataError(f"{key}: {reason}; mend it, or pass over such examples with --on_bad_example skip")
        raise DataError(
            f"{num_bad} bad examples, more than --max_bad_examples {rules.max_bad_examples}; the first: {key}: {reason}"
        )
    return num_bad


def content_share(example: Any) -> float:
    """A number in [0, 1) that only depends on an example's content: the same in whatever shard it lies."""
    digest = hashlib.sha256()
    for piece in _pieces(example):
        digest.update(piece)
    return int.from_bytes(digest.digest()[:8], "big") / 2**64


def _pieces(value: Any) -> Iterator[bytes]:
    """The bytes that an example consists of, with its structure, in a fixed order."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Mapping):
        for name in sorted(value, key=repr):
            yield from _pieces(name)
            yield from _pieces(value[name])
    elif isinstance(value, (list, tuple)):
        yield f"{len(value)}[".encode()
        for item in value:
            yield from _pieces(item)
    elif hasattr(value, "__dict__"):
        yield from _pieces(vars(value))
    else:
        yield repr(value).encode() + b"\0"
