"""What can be said of the tensors in a checkpoint: whether they are finite, their digest, and how two nests differ."""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from trainer.errors import NonFinite

PIECE_BYTES = 2**20
"""What is digested at once: copied into the processor's cache first, it takes 0.8 of the time."""


def no_rest() -> None:
    """Nobody is kept waiting by this work."""


def check_finite(payload: Mapping[str, Any], rest: Callable[[], None] = no_rest) -> None:
    """NonFinite, naming the first parameter or buffer with a NaN or an infinity. `rest` is called between tensors."""
    if name := not_finite(payload["net"], rest):
        step = payload["global_step"]
        raise NonFinite(
            f"step {step}: parameter {name} is not finite; nothing of it was saved; submit again with "
            "--learning_rate_factor 0.1"
        )


def not_finite(net: Mapping[str, Tensor], rest: Callable[[], None] = no_rest) -> str | None:
    """The name of the first parameter or buffer with a NaN or an infinity. `rest` is called between tensors."""
    for name, tensor in net.items():
        rest()
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor):
            return name
    return None


def _is_finite(tensor: Tensor) -> bool:
    """In one pass and without a copy: a NaN is the least and the greatest of numbers."""
    least, greatest = torch.aminmax(tensor)
    return math.isfinite(least.item()) and math.isfinite(greatest.item())


def trained_digest(payload: Mapping[str, Any], rest: Callable[[], None] = no_rest) -> str:
    """SHA-256 of what the optimizer trains, by name; of the whole network and `others` where it gives no names.

    `rest` is called between tensors.
    """
    groups = (payload.get("optimizer") or {}).get("param_groups", ())
    names = [name for group in groups for name in group.get("param_names", ()) if name in payload["net"]]
    return digest_of({name: payload["net"][name] for name in names} or [payload["net"], payload.get("others")], rest)


def digest_of(content: Any, rest: Callable[[], None] = no_rest) -> str:
    """SHA-256 of a nest of tensors and plain values. `rest` is called between tensors."""
    digest = hashlib.sha256()
    _digest(content, digest, rest)
    return digest.hexdigest()


def _digest(value: Any, digest: "hashlib._Hash", rest: Callable[[], None]) -> None:
    if isinstance(value, Tensor):
        rest()
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        content = _bytes(value).numpy()
        for start in range(0, len(content), PIECE_BYTES):
            digest.update(content[start : start + PIECE_BYTES].copy().data)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            digest.update(f"{name!r}:".encode())
            _digest(item, digest, rest)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _digest(item, digest, rest)
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
