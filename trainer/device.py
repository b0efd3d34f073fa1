"""Where to compute, and how numbers are formed there."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from trainer.errors import SettingError
from trainer.settings import TrainSettings

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(settings: TrainSettings) -> torch.device:
    """The device asked for; SettingError where it is not there. Also sets threads, determinism and flushing."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = settings.device
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available[name]:
        raise SettingError(f"--device {name}: this machine has none, or its driver is missing; try --device auto")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    # The moments of what is seldom seen decay until they are denormal, and with those a processor is many times slower.
    torch.set_flush_denormal(True)  # holds for threads that start from here on too, so before the first computation
    if settings.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=name != "cuda")
        torch.backends.cudnn.benchmark = False
    return torch.device(name)


def autocast(settings: TrainSettings, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a forward pass under `--precision`."""
    if settings.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[settings.precision])


def seed_device(device: torch.device, seed: int) -> None:
    """Seed the generators that a network draws from there: the device's own, and the CPU's, which some layers use."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def to_device(batch: Any, device: torch.device) -> Any:
    """A nest of CPU tensors on the device; nothing is copied when that is the CPU."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: to_device(item, device) for name, item in batch.items()}
    if isinstance(batch, (list, tuple)):
        items = [to_device(item, device) for item in batch]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    return batch
