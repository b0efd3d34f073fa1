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
        self._on_gpu: list[tuple[Tensor, Tensor]] = []
        self._stream: torch.cuda.Stream | None = None

    def take(self, value: Any) -> Any:
        """`value` with every tensor replaced by a host copy; CheckpointError at what a checkpoint may not hold.

        The copies of tensors on a GPU are only whole after `wait`.
        """
        self._on_gpu.clear()
        copied = self._taken(value, ())
        if self._on_gpu:
            self._copy_beside(self._on_gpu[0][1].device)
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
        self._on_gpu.append((buffer, tensor))
        return buffer

    def _copy_beside(self, device: torch.device) -> None:
        """Copy what lies on the GPU in a stream of its own, between what was asked of the GPU before and after."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        computing = torch.cuda.current_stream(device)
        self._stream.wait_stream(computing)
        with torch.cuda.stream(self._stream):
            for buffer, tensor in self._on_gpu:
                buffer.copy_(tensor, non_blocking=True)
        computing.wait_stream(self._stream)
        self._on_gpu.clear()


def _shown(path: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" for part in path)


def _plain_key(name: Any, path: tuple[Any, ...]) -> Any:
    if type(name) not in PLAIN:
        raise CheckpointError(f"checkpoint{_shown(path)}: a key of type {type(name).__name__} cannot be saved")
    return name
