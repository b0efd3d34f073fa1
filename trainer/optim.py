"""Optimizer and learning rate. Optimizer state is addressed by parameter name, so that a network may grow."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from trainer.errors import Incompatible
from trainer.settings import TrainSettings

FUSED = ("cpu", "cuda")
"""Devices on which one kernel of AdamW updates a parameter: on the CPU in a third to a sixth of the time. That of SGD
cannot take parameters that have no momentum yet beside some that have, as after growth."""
GUARDED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
STATE_NAMES = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}


def make_optimizer(net: nn.Module, settings: TrainSettings) -> Optimizer:
    """A new optimizer over all parameters that require gradients; those with fewer than two dimensions do not decay."""
    named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [pair for pair in named if pair[1].ndim >= 2]},
        {"params": [pair for pair in named if pair[1].ndim < 2]},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer: Optimizer
    if settings.optimizer == "adamw":
        betas = (settings.momentum, 0.999)
        fused = all(parameter.device.type in FUSED and parameter.is_floating_point() for _, parameter in named)
        optimizer = _light(AdamW)(groups, lr=settings.learning_rate, betas=betas, fused=fused)
    else:
        optimizer = _light(SGD)(groups, lr=settings.learning_rate, momentum=settings.momentum)
    set_weight_decay(optimizer, settings.weight_decay)
    return optimizer


def _light(kind: type[Optimizer]) -> Callable[..., Optimizer]:
    """The optimizer without its guards against torch.compile, whose first use imports torch._dynamo: a second more
    between start and first step. What they guard is a step that is itself compiled; ours never is. And without the
    hooks around a step, which nobody hangs anything on here: they cost a twentieth of a small network's step.
    """
    step = torch.no_grad()(inspect.unwrap(kind.step))
    vars(step)["hooked"] = True  # what an Optimizer marks a step with that has its hooks
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in GUARDED}
    return type(kind.__name__, (kind,), {**methods, "step": step})


def set_weight_decay(optimizer: Optimizer, weight_decay: float) -> None:
    """Today's weight decay: whatever a checkpoint says, the setting holds."""
    for group in optimizer.param_groups:
        group["weight_decay"] = weight_decay if group["params"][0].ndim >= 2 else 0.0


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def learning_rate_at(settings: TrainSettings, example: int, num_examples: int, *, anew: bool = True) -> float:
    """The learning rate of the step that begins at place `example` of a round of `num_examples`.

    `anew`: the round trains a new network; one that goes on with a trained one has its own peak.

    A pure function, re-warmed with each round: that old weights survive a new round's first steps, and that a
    schedule which ended near 0 starts anew (Ibrahim et al., "Simple and Scalable Strategies to Continually
    Pre-train Large Language Models", 2024).
    """
    share = 1.0 if anew else settings.learning_rate_fraction
    peak = settings.learning_rate * settings.learning_rate_factor * share
    warmup = settings.warmup_fraction * num_examples
    if example < warmup:
        return peak * (example + settings.batch_size) / (warmup + settings.batch_size)
    if settings.schedule == "constant":
        return peak
    done = (example - warmup) / max(1.0, num_examples - warmup)
    left = 1 - done if settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return peak * (settings.min_learning_rate + (1 - settings.min_learning_rate) * left)


def named_state(saved: Mapping[str, Any], net: nn.Module) -> dict[str, dict[str, Any]]:
    """The per-parameter state of an optimizer's state_dict by parameter name.

    Without names (a file that is not ours) the numbers count `net.parameters()`, as in every published sample.
    """
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    names = [name for group in saved["param_groups"] for name in group.get("param_names", ())]
    if not names:
        order = [name for name, _ in net.named_parameters()]
        names = [order[number] if number < len(order) else f"parameter {number}" for number in numbers]
    by_number = dict(zip(numbers, names, strict=True))
    return {by_number[number]: dict(state) for number, state in saved["state"].items()}


def load_state(optimizer: Optimizer, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Take over the state of the parameters named; others stay as new. lr and weight decay stay as they are set."""
    own = optimizer.state_dict()
    names = [name for group in own["param_groups"] for name in group["param_names"]]
    by_number = {number: dict(state[name]) for number, name in enumerate(names) if name in state}
    optimizer.load_state_dict({"state": by_number, "param_groups": own["param_groups"]})


def check_state(optimizer: Optimizer, kind: str, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Incompatible, naming the first that differs, unless `state` is one of this optimizer's parameters."""
    parameters = named_parameters(optimizer)
    for name, fields in state.items():
        if name not in parameters:
            raise Incompatible(f"optimizer: found state of {name}, expected a parameter of that name")
        for field, value in fields.items():
            if field not in STATE_NAMES[kind]:
                raise Incompatible(f"optimizer: found {field} for {name}, expected the state of --optimizer {kind}")
            if isinstance(value, Tensor) and value.ndim and value.shape != parameters[name].shape:
                found, expected = tuple(value.shape), tuple(parameters[name].shape)
                raise Incompatible(f"optimizer: {field} of {name}: found shape {found}, expected {expected}")


def named_parameters(optimizer: Optimizer) -> dict[str, Tensor]:
    """The parameters by name."""
    pairs = ((name, tensor) for group in optimizer.param_groups for name, tensor in _pairs(group))
    return dict(pairs)


def _pairs(group: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    return list(zip(group["param_names"], group["params"], strict=True))


def parted(named: Mapping[str, Tensor], beginnings: tuple[str, ...]) -> list[list[Tensor]]:
    """The tensors whose names begin so, and the others, each in their order; a list of either where it has any."""
    parts = [[one for name, one in named.items() if name.startswith(beginnings) == begins] for begins in (True, False)]
    return [part for part in parts if part]


@torch.no_grad()
def clip(parameters: Sequence[Tensor], max_norm: float) -> None:
    """Scale gradients of a norm larger than `max_norm` down to it.

    The same operations as in torch.nn.utils.clip_grad_norm_, bit for bit; its bookkeeping over devices and types costs
    as much again where gradients are small.
    """
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if any(grad.device.type != "cpu" or grad.dtype != torch.float32 for grad in grads):
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    elif grads:
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
        scale = (max_norm / (norm + 1e-6)).clamp_(max=1.0)
        for grad in grads:
            grad.mul_(scale)
