"""What a checkpoint consists of; how it is copied from a running training, written, and read.

The file is one dict with the keys that users of the published pattern know (`net`, `optimizer`, `epoch`) and more;
`torch.load(path, weights_only=True)` opens it anywhere. Pickled code is never executed.
"""

import hashlib
import math
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from trainer.errors import CheckpointError, NonFinite
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

PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The content of a checkpoint file; `name` is the file's, for messages.

    `format` is None for somebody's own file, of which only `net`, `optimizer` and `epoch` count.
    `rounds` are the outlines of its rounds. `others` holds what a training loop of the user's own keeps beside network
    and optimizer.
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


class HostCopy:
    """A copy of a nest of values on the host, in buffers that are made once and used again for every snapshot.

    Neither an optimizer step nor BatchNorm reaches it. Whoever writes it out must be done before the next `take`.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], Tensor] = {}

    def take(self, value: Any, path: tuple[Any, ...] = ()) -> Any:
        """`value` with every tensor replaced by a host copy; CheckpointError at what a checkpoint may not hold."""
        if isinstance(value, Tensor):
            return self._copy(value.detach(), path)
        if isinstance(value, Mapping):
            return {_plain_key(name, path): self.take(item, (*path, repr(name))) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.take(item, (*path, place)) for place, item in enumerate(value)]
        if type(value) in PLAIN:
            return value
        kind = type(value).__name__
        raise CheckpointError(f"checkpoint{_shown(path)}: {kind} cannot be saved; use tensors and plain values")

    def _copy(self, tensor: Tensor, path: tuple[Any, ...]) -> Tensor:
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            pin = tensor.device.type == "cuda"
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pin)
            self._buffers[path] = buffer
        return buffer.copy_(tensor)


def _shown(path: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" for part in path)


def _plain_key(name: Any, path: tuple[Any, ...]) -> Any:
    if type(name) not in PLAIN:
        raise CheckpointError(f"checkpoint{_shown(path)}: a key of type {type(name).__name__} cannot be saved")
    return name


def write(payload: Mapping[str, Any], file: IO[bytes]) -> None:
    """Serialise a host copy. What `file.write` gets is only valid during the call."""
    torch.save(dict(payload), file)


def check_finite(payload: Mapping[str, Any]) -> None:
    """NonFinite, naming the first parameter or buffer with a NaN or an infinity."""
    if name := not_finite(payload["net"]):
        step = payload["global_step"]
        raise NonFinite(
            f"step {step}: parameter {name} is not finite; nothing of it was saved; submit again with "
            "--learning_rate_factor 0.1"
        )


def not_finite(net: Mapping[str, Tensor]) -> str | None:
    """The name of the first parameter or buffer with a NaN or an infinity."""
    for name, tensor in net.items():
        if tensor.is_floating_point() and not math.isfinite(tensor.abs().max().item() if tensor.numel() else 0.0):
            return name
    return None


def trained_digest(payload: Mapping[str, Any]) -> str:
    """SHA-256 of what the optimizer trains, by name; of the whole network and `others` where it gives no names."""
    groups = (payload.get("optimizer") or {}).get("param_groups", ())
    names = [name for group in groups for name in group.get("param_names", ()) if name in payload["net"]]
    content: Any = {name: payload["net"][name] for name in names} or [payload["net"], payload.get("others")]
    digest = hashlib.sha256()
    _digest(content, digest)
    return digest.hexdigest()


def _digest(value: Any, digest: "hashlib._Hash") -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(_bytes(value).numpy().data)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            digest.update(f"{name!r}:".encode())
            _digest(item, digest)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _digest(item, digest)
    else:
        digest.update(f"{value!r},".encode())


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def first_difference(expected: Any, found: Any, where: str) -> str:
    """Where two nests of tensors and plain values differ first, bit for bit, in words; "" where they do not."""
    if isinstance(expected, Tensor) and isinstance(found, Tensor):
        return _tensor_difference(expected, found, where)
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        names = list(dict.fromkeys((*expected, *found)))
        pairs = ((name, expected.get(name), found.get(name)) for name in names)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = ((place, *pair) for place, pair in enumerate(zip(expected, found, strict=True)))
    else:
        return "" if expected == found else f"{where}: {found!r}, expected {expected!r}"
    differences = (first_difference(one, other, f"{where}.{name}") for name, one, other in pairs)
    return next(filter(None, differences), "")


def _tensor_difference(expected: Tensor, found: Tensor, where: str) -> str:
    if (expected.dtype, expected.shape) != (found.dtype, found.shape):
        kinds = [f"{tensor.dtype} of shape {tuple(tensor.shape)}" for tensor in (found, expected)]
        return f"{where}: {kinds[0]}, expected {kinds[1]}"
    if torch.equal(_bytes(expected), _bytes(found)):
        return ""
    apart = (expected.double() - found.double()).abs()
    num, most = int((apart != 0).sum()), float(apart.max())
    return f"{where} differs in {num} of {apart.numel()} numbers, by {most:.3g} at most"


def last_learning_rate(payload: Mapping[str, Any]) -> float | None:
    """The highest learning rate of the last step; None where it is not known, or the scaler left that step out."""
    rates = [group.get("lr") for group in (payload.get("optimizer") or {}).get("param_groups", ())]
    known = [float(rate) for rate in rates if isinstance(rate, (int, float, Tensor)) and math.isfinite(rate)]
    scaler = payload.get("scaler") or {}
    left_out = scaler.get("_growth_tracker") == 0
    return None if left_out else max(known, default=None)


def read(path: Path) -> Payload:
    """The content of a checkpoint file on the CPU; CheckpointError when it is none. Runs no code from the file."""
    content = _load(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name}: holds a {type(content).__name__}, expected a dict with net, optimizer, epoch"
        )
    try:
        return _payload(path.name, content)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from error


def _load(path: Path) -> Any:
    _check_size(path)
    try:
        with warnings.catch_warnings():  # torch warns of what it then cannot read anyway
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(f"{path.name}: torch.load cannot read it: {_reason(error)}") from error


def _check_size(path: Path) -> None:
    """torch.save stores what it writes as it is; what is packed, or there twice, could become any size in memory."""
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        is_packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if is_packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise CheckpointError(f"{path.name}: its content is compressed, which torch.save never does")


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
    if content["epoch"] < 0:
        raise CheckpointError(f"epoch: found {content['epoch']}, expected 0 or more")
    for name, tensor in content["net"].items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.is_meta:
            raise CheckpointError(f"net: holds a {type(tensor).__name__} as {name!r}, expected tensors by their names")


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
