"""The settings of training, each with its type, bounds, class and a line of help; importing this loads no torch."""

from typing import Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field
from pydantic.fields import FieldInfo

Class = Literal["run", "round", "now"]
"""When a setting is read: once for the folder, when a round starts, or at every submission."""


def setting(default: Any, help: str, *, when: Class, group: str, unit: str = "", **bounds: Any) -> Any:
    """A pydantic field that also knows its class, the group of `--help` it is shown in, and its unit."""
    extra: dict[str, Any] = {"class": when, "group": group, "unit": unit}
    return Field(default=default, description=help, json_schema_extra=extra, **bounds)


class TrainSettings(BaseModel):
    """What the trainer is told. Each field's class says how a change between submissions is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    seed: int = setting(0, "what every random draw is derived from", when="run", group="training", ge=0, lt=2**63)
    epochs: int = setting(10, "epochs of the first round", when="round", group="training", ge=1)
    epoch_fraction: float = setting(
        0.2, "epochs of a later round, as a share of --epochs, rounded up", when="round", group="training", gt=0, le=10
    )
    finetune_epochs: int = setting(
        0, "epochs of a later round; 0: by --epoch_fraction", when="round", group="training", ge=0
    )
    new_label_epochs: int = setting(
        0, "epochs more of a later round that brings new labels; not with --finetune_epochs",
        when="round", group="training", ge=0,
    )  # fmt: skip
    examples_per_epoch: int = setting(
        0, "length of a (virtual) epoch; 0: one pass over the round's examples",
        when="round", group="training", unit="examples", ge=0,
    )  # fmt: skip
    batch_size: int = setting(
        32, "global batch size: examples per step, over all ranks", when="round", group="training",
        unit="examples", ge=1,
    )  # fmt: skip
    batch_size_fraction: float = setting(
        1.0, "global batch size of a later round, as a share of --batch_size", when="round", group="training",
        gt=0, le=10,
    )  # fmt: skip
    min_epoch_steps: int = setting(
        0, "steps that an epoch has at least where it has as many examples: short rounds have smaller batches",
        when="round", group="training", unit="steps", ge=0,
    )  # fmt: skip
    min_round_steps: int = setting(
        0, "steps that a later round has at least: short ones have smaller batches, then more epochs; not with "
        "--finetune_epochs", when="round", group="training", unit="steps", ge=0,
    )  # fmt: skip
    micro_batch_size: int = setting(
        0, "examples per forward pass, the gradients of a step's passes being added up; 0: the whole batch",
        when="round", group="training", unit="examples", ge=0,
    )  # fmt: skip
    precision: Literal["fp32", "bf16", "fp16"] = setting(
        "fp32", "number format of the forward pass", when="round", group="training"
    )

    optimizer: Literal["adamw", "sgd"] = setting("adamw", "update rule", when="round", group="optimizer")
    learning_rate: float = setting(
        1e-3, "peak learning rate", when="round", group="optimizer", gt=0, allow_inf_nan=False
    )
    learning_rate_fraction: float = setting(
        1.0, "peak learning rate of a later round, as a share of --learning_rate",
        when="round", group="optimizer", gt=0, le=10,
    )  # fmt: skip
    schedule: Literal["constant", "cosine", "linear"] = setting(
        "cosine", "how the learning rate falls over a round, after its warm-up", when="round", group="optimizer"
    )
    warmup_fraction: float = setting(
        0.05, "share of a round over which the learning rate rises from 0", when="round", group="optimizer", ge=0, le=1
    )
    min_learning_rate: float = setting(
        0.0, "where cosine and linear end, as a share of the peak", when="round", group="optimizer", ge=0, le=1
    )
    momentum: float = setting(
        0.9, "momentum of sgd; the first beta of adamw", when="round", group="optimizer", ge=0, lt=1
    )
    max_grad_norm: float = setting(
        1.0, "gradients of a larger norm are scaled down to it; 0: never", when="round", group="optimizer", ge=0
    )
    weight_decay: float = setting(
        0.01, "weight decay of parameters with two or more dimensions", when="now", group="optimizer", ge=0
    )
    learning_rate_factor: float = setting(
        1.0, "multiplies the learning rate from now on", when="now", group="optimizer", gt=0, allow_inf_nan=False
    )

    old_data: Literal["mix", "all", "none"] = setting(
        "mix", "old examples in a later round: a balanced draw, all, or none", when="round", group="rounds"
    )
    replay: float = setting(
        0.25, "old examples per new one, for --old_data mix; see --new_label_replay",
        when="round", group="rounds", ge=0, allow_inf_nan=False,
    )  # fmt: skip
    new_label_replay: float = setting(
        1.0, "by how much --replay is multiplied in a round that brings new labels, for --old_data mix",
        when="round", group="rounds", ge=0, allow_inf_nan=False,
    )  # fmt: skip
    min_replay: int = setting(
        0, "examples of each known label that a later round has at least: --old_data mix draws what the new ones lack "
        "of that, as far as there are; not with --replay 0, nor where labels are new with --new_label_replay 0",
        when="round", group="rounds", unit="examples", ge=0,
    )  # fmt: skip
    eval_fraction: float = setting(
        0.0, "share of each shard held out for evaluation when there are no evaluation shards",
        when="run", group="rounds", ge=0, lt=1,
    )  # fmt: skip

    early_stopping_epochs: int = setting(
        0, "end a round when --best_metric has not risen for so many epochs; 0: never",
        when="round", group="rounds", unit="epochs", ge=0,
    )  # fmt: skip
    best_metric: str = setting(
        "", "the score that tells a better checkpoint; -NAME where lower is better; empty: the task's own",
        when="now", group="rounds",
    )  # fmt: skip

    device: Literal["auto", "cpu", "cuda", "mps"] = setting(
        "auto", "where to compute; auto: CUDA, else MPS, else CPU", when="now", group="machine"
    )
    compile: bool = setting(
        False, "train through torch.compile, which takes a minute at first and then less for each step; without a "
        "compiler on the machine, a warning",
        when="now", group="machine",
    )  # fmt: skip
    deterministic: bool = setting(
        False, "only deterministic algorithms on CUDA, for runs that are equal bit for bit", when="now", group="machine"
    )
    memory_bytes: ByteSize = setting(
        ByteSize(2 * 2**30), "shards are kept open in memory from epoch to epoch up to this size",
        when="now", group="machine", unit="bytes", ge=0,
    )  # fmt: skip
    decoded_bytes: ByteSize = setting(
        ByteSize(10 * 2**30), "decoded shards without room in memory stay on disk up to this size, where the task can",
        when="now", group="machine", unit="bytes", ge=0,
    )  # fmt: skip
    threads: int = setting(
        0, "threads of torch on the CPU; 0: as many as the task trains best with, where it says, else torch decides",
        when="now", group="machine", ge=0,
    )  # fmt: skip


def fields_of(settings: BaseModel, when: Class) -> dict[str, Any]:
    """The values of one class, as plain JSON values."""
    fields = type(settings).model_fields.items()
    names = {name for name, field in fields if extra_of(field)["class"] == when}
    return settings.model_dump(mode="json", include=names)


def extra_of(field: FieldInfo) -> dict[str, str]:
    """What `setting` noted beside a field's type: its class, group and unit; a field made without it is fixed."""
    extra = field.json_schema_extra
    return {name: str(value) for name, value in extra.items()} if isinstance(extra, dict) else {"class": "run"}
