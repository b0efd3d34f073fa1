"""The state that training changes and a checkpoint holds: network, optimizer, scaler, vocabulary, progress."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer import optim
from trainer.checkpoint import Payload
from trainer.draw import stream
from trainer.errors import Incompatible
from trainer.frozen import Frozen, frozen_names
from trainer.plan import Progress
from trainer.settings import TrainSettings
from trainer.task import Task
from trainer.vocabulary import Vocabulary

AT_ONCE_BYTES = 32 * 2**20
"""How much of a network is copied before its source is given up."""


@dataclass
class TrainState:
    """Everything that a step changes. `parameters` lists those that train.

    `frozen_names` are those in the network's state that a task declares to be `frozen`.
    """

    net: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    vocabulary: Vocabulary
    device: torch.device
    progress: Progress = field(default_factory=Progress)
    frozen_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.parameters = [tensor for group in self.optimizer.param_groups for tensor in group["params"]]

    @cached_property
    def frozen(self) -> Frozen | None:
        """What no checkpoint holds, as it is when first asked for; None where all is trained."""
        net = self.net.state_dict()
        return Frozen({name: net[name] for name in self.frozen_names}) if self.frozen_names else None

    def state_dict(self) -> dict[str, Any]:
        """The changing parts of a checkpoint; tensors are the live ones."""
        left_out = frozenset(self.frozen_names)
        return {
            "net": {name: tensor for name, tensor in self.net.state_dict().items() if name not in left_out},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() or None,
            "vocabulary": self.vocabulary.to_dict(),
            "epoch": self.progress.epoch,
            "global_step": self.progress.global_step,
            "progress": asdict(self.progress),
            # What readers of such files expect, and a resume does not need: both follow from settings and place.
            "scheduler": {"learning_rate": float(self.optimizer.param_groups[0]["lr"])},
            "rng": {},
            "ema": None,
        }


def new_state(task: Task, vocabulary: Vocabulary, settings: TrainSettings, device: torch.device) -> TrainState:
    """An untrained state; its network is a function of the seed and the vocabulary."""
    torch.manual_seed(stream(settings.seed, "init", *(len(vocabulary.names(kind)) for kind in vocabulary.blocks)))
    net = task.build(vocabulary).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    optimizer, frozen = optim.make_optimizer(net, settings), frozen_names(net, task.frozen)
    return TrainState(net, optimizer, scaler, vocabulary, device, frozen_names=frozen)


def grown(state: TrainState, task: Task, vocabulary: Vocabulary, settings: TrainSettings) -> TrainState:
    """The state for a larger vocabulary and a new round's settings: every old parameter and moment as it was.

    Moments are left behind only where the round asks for another optimizer.
    """
    larger = new_state(task, vocabulary, settings, state.device)
    moments = optim.named_state(state.optimizer.state_dict(), state.net)
    if kind_of(moments) not in (settings.optimizer, None):
        moments = {}
    # What the state before keeps must not be trained on with this one.
    _take_over(larger, state.net.state_dict(), copy.deepcopy(moments), settings.optimizer)
    if larger.scaler.is_enabled() and state.scaler.is_enabled():
        larger.scaler.load_state_dict(state.scaler.state_dict())
    larger.progress = state.progress
    return larger


def restored(
    task: Task, payload: Payload, vocabulary: Vocabulary, settings: TrainSettings, device: torch.device
) -> TrainState:
    """The state that a checkpoint holds; Incompatible when it does not fit. All is checked before any is applied.

    The payload is used up: its moments become those of the state, and what was copied out of `net` is removed from it,
    so that no more memory is needed than state and gradients have.
    """
    state = new_state(task, vocabulary, settings, device)
    net = payload.net if isinstance(payload.net, dict) else dict(payload.net)
    check_complete(state.net.state_dict(), net)
    _take_over(state, net, optim.named_state(payload.optimizer, state.net), settings.optimizer)
    if payload.scaler and state.scaler.is_enabled():
        state.scaler.load_state_dict(dict(payload.scaler))
    # Each step sets its own. Where no step is left in the round, the next checkpoint tells that of the last one.
    for group in payload.optimizer["param_groups"][:1] if payload.format is not None else ():
        optim.set_learning_rate(state.optimizer, float(group["lr"]))
    state.progress = payload.progress
    return state


def _take_over(state: TrainState, net: dict[str, Tensor], moments: Mapping[str, Mapping[str, Any]], kind: str) -> None:
    """Check all, then take the moments as they are, and copy and remove the tensors of `net`, some at a time."""
    check_fits(state.net.state_dict(), net)
    optim.check_state(state.optimizer, kind, moments)
    optim.load_state(state.optimizer, moments)
    while net:
        state.net.load_state_dict(_some_of(net), strict=False)


def _some_of(net: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that are removed from `net`: about AT_ONCE_BYTES of them."""
    taken: dict[str, Tensor] = {}
    num_bytes = 0
    while net and num_bytes < AT_ONCE_BYTES:
        name, tensor = net.popitem()
        taken[name] = tensor
        num_bytes += tensor.nbytes
    return taken


def kind_of(moments: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Which optimizer a saved state belongs to; None when it has none, or is of an unknown one."""
    fields = {field for state in moments.values() for field in state}
    return next((kind for kind, names in optim.STATE_NAMES.items() if fields and fields <= names), None)


def check_fits(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Incompatible, with the first name that differs, unless everything found has its place in `own`."""
    for name, tensor in found.items():
        if name not in own:
            raise Incompatible(f"net: found {name}, expected a network without it")
        if tensor.shape != own[name].shape:
            raise Incompatible(f"net: {name}: found shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)}")


def check_complete(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Incompatible when a parameter of the network was not found."""
    missing = next((name for name in own if name not in found), None)
    if missing is not None:
        raise Incompatible(f"net: found no {missing}, expected it with shape {tuple(own[missing].shape)}")
