"""Copying a running training's state to the host."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainer.errors import CheckpointError

PLAIN = frozenset({bool, int, float, str, type(None)})


class HostCopy:
    """A copy of a nest of values on the host, in buffers that are made once and used again for every snapshot.

    Neither an optimizer step nor BatchNorm reaches it. Whoever writes it out must be done before the next `take`.
    From a GPU the copies are made while the caller goes on: what it asks of the GPU next begins when they are done.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], Tensor] = {}
        self._stream: torch.cuda.Stream | None = None

    def take(self, value: Any) -> Any:
        """`value` with every tensor replaced by a host copy; CheckpointError at what a checkpoint may not hold.

        The copies of tensors on a GPU are only whole after `wait`.
        """
        copied = self._taken(value, ())
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        return copied

    def wait(self) -> None:
        """Until the copies are whole; from any thread."""
        if self._stream is not None:
            self._stream.synchronize()

    def _taken(self, value: Any, path: tuple[Any, ...]) -> Any:
        if type(value) in PLAIN:
            return value
        if isinstance(value, Tensor):
            return self._copy(value.detach(), path)
        if isinstance(value, Mapping):
            return {_plain_key(name, path): self._taken(item, (*path, repr(name))) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            if PLAIN.issuperset(map(type, value)):  # tens of thousands of names, at every save
                return list(value)
            return [self._taken(item, (*path, place)) for place, item in enumerate(value)]
        kind = type(value).__name__
        raise CheckpointError(f"checkpoint{_shown(path)}: {kind} cannot be saved; use tensors and plain values")

    def _copy(self, tensor: Tensor, path: tuple[Any, ...]) -> Tensor:
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            pin = tensor.device.type == "cuda"
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pin)
            self._buffers[path] = buffer
        if tensor.device.type != "cuda":
            return buffer.copy_(tensor)
        with torch.cuda.stream(self._side_stream(tensor.device)):
            return buffer.copy_(tensor, non_blocking=True)

    def _side_stream(self, device: torch.device) -> torch.cuda.Stream:
        """A stream beside the one that computes, which has done by then what was asked of it before `take`."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        return self._stream


def _shown(path: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" for part in path)


def _plain_key(name: Any, path: tuple[Any, ...]) -> Any:
    if type(name) not in PLAIN:
        raise CheckpointError(f"checkpoint{_shown(path)}: a key of type {type(name).__name__} cannot be saved")
    return name
