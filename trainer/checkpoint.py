"""What a checkpoint consists of; how it is written and read.

The file is one dict with the keys that users of the published pattern know (`net`, `optimizer`, `epoch`) and more;
`torch.load(path, weights_only=True)` opens it anywhere. Pickled code is never executed.
"""

import math
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import torch
from torch import Tensor

from trainer.contents import no_rest
from trainer.errors import CheckpointError
from trainer.plan import Progress

FORMAT = 1
MAX_REASON_CHARS = 200
WRAPPER = "module."
"""What DataParallel and DistributedDataParallel put before every name of the network inside."""

UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, ValueError, EOFError, LookupError, AttributeError, TypeError, AssertionError,
    struct.error,
)  # fmt: skip
"""What torch.load raises for bytes that are no checkpoint, or a damaged one."""

FOREIGN_KINDS: Mapping[str, type] = {"net": dict, "optimizer": dict, "epoch": int}
OWN_KINDS: Mapping[str, type] = {**FOREIGN_KINDS, "progress": dict}


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The content of a checkpoint file; `name` is the file's, for messages.

    `format` is None for somebody's own file, of which only `net`, `optimizer` and `epoch` count.
    `rounds` are the outlines of its rounds. `frozen` is the digest of those tensors of `net` that lay in a file of
    their own, see `trainer.frozen`. `others` holds what a training loop of the user's own keeps beside network and
    optimizer.
    """

    name: str
    net: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    progress: Progress
    scaler: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    vocabulary: Mapping[str, Any]
    others: Mapping[str, Any]
    format: int | None
    rounds: Sequence[Mapping[str, Any]] = ()
    frozen: str | None = None


def write(payload: Mapping[str, Any], file: IO[bytes], rest: Callable[[], None] = no_rest) -> None:
    """Serialise a host copy. What `file.write` gets is only valid during the call.

    Without the CRC-32 of a zip, which torch.load does not read, and which would cost as much as the record's SHA-256.
    `rest` is called before each tensor is described and before each write: torch.save is Python between them.
    """
    with _without_crc():
        resting: Any = _Resting(file, rest)  # torch asks for no more of a file
        torch.save(dict(payload), resting, pickle_module=_resting_pickle(rest))


class _Resting:
    """A file that lets others go first before each write."""

    def __init__(self, file: IO[bytes], rest: Callable[[], None]) -> None:
        self._file, self._rest = file, rest

    def write(self, data: bytes | memoryview, /) -> int:
        self._rest()
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _resting_pickle(rest: Callable[[], None]) -> Any:
    """The module pickle as torch.save asks for it, whose pickler calls `rest` before each tensor."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            rest()
            return NotImplemented

    return SimpleNamespace(Pickler=Pickler, __name__=pickle.__name__)


@contextmanager
def _without_crc() -> Iterator[None]:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def last_learning_rate(payload: Mapping[str, Any]) -> float | None:
    """The highest learning rate of the last step; None where it is not known, or the scaler left that step out."""
    rates = [group.get("lr") for group in (payload.get("optimizer") or {}).get("param_groups", ())]
    known = [float(rate) for rate in rates if isinstance(rate, (int, float, Tensor)) and math.isfinite(rate)]
    scaler = payload.get("scaler") or {}
    left_out = scaler.get("_growth_tracker") == 0
    return None if left_out else max(known, default=None)


def read(file: Path | IO[bytes], frozen: Path | IO[bytes] | None = None) -> Payload:
    """The content of a checkpoint file on the CPU; CheckpointError when it is none. Runs no code from the file.

    An open file is read from its beginning to its end, apart from a look at its end.

    `frozen` is the file of its frozen tensors, where it has some; they join `net`.
    """
    content = _load(file)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file.name}: holds a {type(content).__name__}, expected a dict with net, optimizer, epoch"
        )
    try:
        payload = _payload(file.name, content)
        return payload if payload.frozen is None else _joined(payload, frozen)
    except CheckpointError as error:
        raise CheckpointError(f"{file.name}: {error}") from error


def _joined(payload: Payload, frozen: Path | IO[bytes] | None) -> Payload:
    """With the frozen tensors, whose file's name begins as the digest of its content."""
    if frozen is None or not str(payload.frozen).startswith(frozen.name.partition("-")[0]):
        found = "none" if frozen is None else frozen.name
        raise CheckpointError(f"frozen: found {found}, expected the file of {payload.frozen}")
    tensors = _load(frozen)
    _check_kinds({"frozen": tensors}, {"frozen": dict})
    _check_tensors(tensors, frozen.name)
    return replace(payload, net={**tensors, **payload.net})


def _load(file: Path | IO[bytes]) -> Any:
    _check_size(file)
    try:
        with warnings.catch_warnings():  # torch warns of what it then cannot read anyway
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(f"{file.name}: torch.load cannot read it: {_reason(error)}") from error


def _check_size(file: Path | IO[bytes]) -> None:
    """torch.save stores what it writes as it is; what is packed, or there twice, could become any size in memory."""
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        is_packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if is_packed or sum(member.file_size for member in members) > _size(file):
            raise CheckpointError(f"{file.name}: its content is compressed, which torch.save never does")


def _size(file: Path | IO[bytes]) -> int:
    if isinstance(file, Path):
        return file.stat().st_size
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def _reason(error: Exception) -> str:
    """Of what torch says only the first sentence: its advice is to run the pickled code."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is damaged, or holds more than tensors and plain values, which might run code"
    if isinstance(error, RuntimeError) and str(error):
        return str(error).splitlines()[0].partition(". ")[0][:MAX_REASON_CHARS]
    return "it is truncated or damaged"


def _payload(name: str, content: Mapping[str, Any]) -> Payload:
    found = content.get("format")
    if found is not None and found != FORMAT:
        raise CheckpointError(f"format {found}, this version reads {FORMAT}; use a newer perdure")
    _check_kinds(content, FOREIGN_KINDS if found is None else OWN_KINDS)
    if content["epoch"] < 0:
        raise CheckpointError(f"epoch: found {content['epoch']}, expected 0 or more")
    _check_tensors(content["net"], "net")
    return _foreign(name, content) if found is None else _own(name, content)


def _own(name: str, content: Mapping[str, Any]) -> Payload:
    return Payload(
        name=name,
        net=content["net"],
        optimizer=content["optimizer"],
        progress=Progress.from_dict(content["progress"]),
        scaler=content.get("scaler"),
        settings=content.get("settings") or {},
        vocabulary=content.get("vocabulary") or {},
        others=content.get("others") or {},
        format=FORMAT,
        rounds=content.get("rounds") or (),
        frozen=content.get("frozen"),
    )


def _foreign(name: str, content: Mapping[str, Any]) -> Payload:
    """What else somebody's own file holds has a meaning that is not known."""
    _check_optimizer(content["optimizer"])
    return Payload(
        name=name,
        net=_without_wrapper(content["net"]),
        optimizer=content["optimizer"],
        progress=Progress(epoch=content["epoch"]),
        scaler=None,
        settings={},
        vocabulary={},
        others={},
        format=None,
    )


def _check_kinds(content: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            found = type(content[name]).__name__ if name in content else "nothing"
            raise CheckpointError(f"{name}: found {found}, expected {kind.__name__}")


def _check_tensors(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.is_meta:
            raise CheckpointError(
                f"{where}: holds a {type(tensor).__name__} as {name!r}, expected tensors by their names"
            )


def _check_optimizer(found: Mapping[str, Any]) -> None:
    """CheckpointError unless it looks like an optimizer's state_dict."""
    try:
        numbers = {number for group in found["param_groups"] for number in group["params"]}
        fits = all(number in numbers and isinstance(state, Mapping) for number, state in found["state"].items())
    except (LookupError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise CheckpointError("optimizer: holds no optimizer's state_dict (param_groups, and state of their params)")


def _without_wrapper(net: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if all(name.startswith(WRAPPER) for name in net):
        return {name.removeprefix(WRAPPER): tensor for name, tensor in net.items()}
    return net
