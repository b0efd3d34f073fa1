"""What a checkpoint consists of; how it is copied from a running training, written, and read.

The file is one dict with the keys that users of the published pattern know (`net`, `optimizer`, `epoch`) and more;
`torch.load(path, weights_only=True)` opens it anywhere. Pickled code is never executed.
"""

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from trainer.errors import CheckpointError, NonFinite
from trainer.plan import Progress

FORMAT = 1
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The content of a checkpoint file. `format` None: somebody's own file with `net`, `optimizer`, `epoch` only.

    `others` holds what a training loop of the user's own keeps beside network and optimizer.
    """

    net: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    progress: Progress
    scaler: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    vocabulary: Mapping[str, Any]
    others: Mapping[str, Any]
    format: int | None


class HostCopy:
    """A copy of a nest of values on the host, in buffers that are made once and used again for every snapshot.

    Neither an optimizer step nor BatchNorm reaches it. Whoever writes it out must be done before the next `take`.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, value: Any, path: str = "") -> Any:
        """`value` with every tensor replaced by a host copy; CheckpointError at what a checkpoint may not hold."""
        if isinstance(value, Tensor):
            return self._copy(value.detach(), path)
        if isinstance(value, Mapping):
            return {_plain_key(name, path): self.take(item, f"{path}.{name}") for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.take(item, f"{path}.{place}") for place, item in enumerate(value)]
        if type(value) in PLAIN:
            return value
        raise CheckpointError(f"checkpoint{path}: {type(value).__name__} cannot be saved; use tensors and plain values")

    def _copy(self, tensor: Tensor, path: str) -> Tensor:
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            pin = tensor.device.type == "cuda"
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pin)
            self._buffers[path] = buffer
        return buffer.copy_(tensor)


def _plain_key(name: Any, path: str) -> Any:
    if type(name) not in PLAIN:
        raise CheckpointError(f"checkpoint{path}: a key of type {type(name).__name__} cannot be saved")
    return name


def write(payload: Mapping[str, Any], file: IO[bytes]) -> None:
    """Serialise a host copy. What `file.write` gets is only valid during the call."""
    torch.save(dict(payload), file)


def check_finite(payload: Mapping[str, Any]) -> None:
    """NonFinite, naming the first parameter or buffer with a NaN or an infinity."""
    for name, tensor in payload["net"].items():
        if tensor.is_floating_point() and not math.isfinite(tensor.abs().max().item() if tensor.numel() else 0.0):
            step = payload["global_step"]
            raise NonFinite(
                f"step {step}: parameter {name} is not finite; nothing was saved; try a smaller learning rate"
            )


def read(path: Path) -> Payload:
    """The content of a checkpoint file on the CPU; CheckpointError when it is none. Runs no code from the file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path.name}: torch cannot read it: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name}: holds a {type(content).__name__}, expected a dict with net, optimizer, epoch"
        )
    for name, kind in (("net", Mapping), ("optimizer", Mapping), ("epoch", int)):
        if not isinstance(content.get(name), kind):
            raise CheckpointError(f"{path.name}: has no {name!r}")
    return _payload(path, content)


def _payload(path: Path, content: Mapping[str, Any]) -> Payload:
    found = content.get("format")
    if found is not None and found != FORMAT:
        raise CheckpointError(f"{path.name}: format {found}, this version reads {FORMAT}; use a newer perdure")
    if not all(isinstance(tensor, Tensor) for tensor in content["net"].values()):
        raise CheckpointError(f"{path.name}: net holds something other than tensors")
    progress = content.get("progress") or {"epoch": content["epoch"]}
    return Payload(
        net=content["net"],
        optimizer=content["optimizer"],
        progress=Progress.from_dict(progress),
        scaler=content.get("scaler"),
        settings=content.get("settings") or {},
        vocabulary=content.get("vocabulary") or {},
        others=content.get("others") or {},
        format=found,
    )
