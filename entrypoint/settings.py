"""The settings of a job: those of training, and those of everything around it. Where values come from: `config`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ByteSize, ConfigDict, model_validator
from pydantic.fields import FieldInfo

from entrypoint import promote
from trainer.settings import Class, TrainSettings, setting

GROUPS: Mapping[str, str] = {
    "places": "where everything is",
    "task": "what is trained",
    "training": "how it is trained",
    "optimizer": "optimizer and learning rate",
    "rounds": "rounds: new data, old data, evaluation",
    "data": "shards and examples",
    "checkpoints": "saving and keeping",
    "machine": "devices and local disk",
    "process": "the process and its output",
    "verify": "what perdure verify does",
    "use": "using what was trained: predict, evaluate",
}
"""The groups of `--help`, in its order, with their titles."""

_PORT = "[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
ADDRESS = re.compile(
    rf"https?://([^/?#\s@]*@)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(:({_PORT}))?(/[\w./~%+:@-]*)?", re.ASCII | re.IGNORECASE
)
"""What an endpoint may be; obstore panics at much that is none."""
_TAKEN_EXIT_CODES = (65, 70, 78)


class JobConfig(TrainSettings):
    """All settings of one submission. Each is known outside by its alias, or else by its name."""

    model_config = ConfigDict(populate_by_name=True)

    train_url: str = setting(
        "", "output folder: a path or URL, the same at every submission", when="now", group="places"
    )
    data_url: str = setting("", "folder of the data shards: a path or URL", when="now", group="places")
    eval_url: str | None = setting(
        None, "folder of the evaluation shards; default: eval/ in --data_url", when="now", group="places"
    )
    endpoint_url: str | None = setting(
        None,
        "address of the object store; default: the one that belongs to the URL and region",
        when="now",
        group="places",
    )
    region: str | None = setting(
        None, "region of the object store; default: as the environment says", when="now", group="places"
    )

    task: str = setting(
        "", "what to train: a name (images, nlu), ./file.py:Class or module:Class", when="run", group="task"
    )
    sets: dict[str, str] = setting(
        {}, "a setting of the task itself, as name=value; may be repeated", when="run", group="task", alias="set"
    )

    rounds_from: str | None = setting(
        None,
        "output folder of another run, whose rounds are repeated with the same shards",
        when="now",
        group="rounds",
    )

    init_from: str | None = setting(
        None,
        "output folder of another run, whose newest checkpoint a new folder begins with; "
        "later submissions continue the folder's own",
        when="now",
        group="rounds",
    )
    promote_if: str = setting(
        "", "conditions under which a later round's model replaces the exported one, such as "
        "'accuracy >= best - 0.01 and negative_flip_rate <= 0.02'; empty: always",
        when="now", group="rounds",
    )  # fmt: skip

    on_changed_shard: Literal["diff", "fail", "ignore"] | None = setting(
        None, "a shard with new content: train its new examples, stop, or go on as if it were the old one; "
        "default: what the task can do (diff where its examples have keys, else fail)",
        when="now", group="data",
    )  # fmt: skip
    on_removed_shard: Literal["ignore", "fail"] = setting(
        "ignore", "a shard of an earlier round that is gone: do without it, or stop", when="now", group="data"
    )
    on_bad_example: Literal["fail", "skip"] = setting(
        "fail", "an example that cannot be read: stop, or do without it", when="now", group="data"
    )
    max_bad_examples: int = setting(
        100, "more bad examples than this are an error in any case", when="now", group="data", unit="examples", ge=0
    )
    shard_keys_grow: bool = setting(
        False, "a promise: names of new shards sort after those of old ones, so one request finds them",
        when="now", group="data",
    )  # fmt: skip
    max_shard_bytes: ByteSize = setting(
        "4GB",
        "a shard that is larger, as it is or decompressed, is an error",
        when="now",
        group="data",
        unit="bytes",
        ge=1,
    )

    start_over: bool = setting(
        False, "permission to begin anew where files are there and none can be used; else without effect",
        when="now", group="checkpoints",
    )  # fmt: skip
    save_every: Literal["auto", "epoch"] = setting(
        "auto", "when to save: auto, within epochs too, as often as what a save costs here and the interruptions seen "
        "in this folder make good; epoch, only after each; a fixed time is --save_every_seconds",
        when="now", group="checkpoints",
    )  # fmt: skip
    max_lost_seconds: float = setting(
        60.0, "what an interruption may cost at most, for --save_every auto; yields where saving would take more than "
        "1 % of the time", when="now", group="checkpoints", unit="seconds", gt=0, allow_inf_nan=False,
    )  # fmt: skip
    save_every_seconds: float | None = setting(
        None, "a fixed time between two checkpoints within an epoch, instead of --save_every auto",
        when="now", group="checkpoints", unit="seconds", gt=0, allow_inf_nan=False,
    )  # fmt: skip
    overlap: Literal["skip", "wait"] = setting(
        "skip", "a checkpoint that is due while the last one is still being published: skip it if it is one within an "
        "epoch (that of an epoch's end is a second copy in memory), or let training wait",
        when="now", group="checkpoints",
    )  # fmt: skip
    max_unpublished_seconds: float = setting(
        1800.0, "how long training goes on while checkpoints cannot be published; then they are saved on this machine",
        when="now", group="checkpoints", unit="seconds", ge=0, allow_inf_nan=False,
    )  # fmt: skip
    keep_last: int = setting(2, "newest checkpoints to keep", when="now", group="checkpoints", ge=2)
    keep_best: int = setting(1, "best checkpoints to keep, by --best_metric", when="now", group="checkpoints", ge=0)
    keep_every: int = setting(
        0, "keep the checkpoint of every so many epochs for good; 0: none",
        when="now", group="checkpoints", unit="epochs", ge=0,
    )  # fmt: skip
    claim_timeout_seconds: float = setting(
        60.0, "an attempt that gave no sign of life for so long is taken for dead",
        when="now", group="checkpoints", unit="seconds", ge=1, allow_inf_nan=False,
    )  # fmt: skip

    cache_dir: Path | None = setting(
        None, "folder for shards fetched ahead of use; default: in the system's temporary folder",
        when="now", group="machine",
    )  # fmt: skip
    cache_bytes: ByteSize = setting(
        "10GB", "fetched shards never take more of the disk", when="now", group="machine", unit="bytes", ge=1
    )

    max_run_seconds: float = setting(
        0.0, "save and leave after this time; 0: no limit",
        when="now", group="process", unit="seconds", ge=0, allow_inf_nan=False,
    )  # fmt: skip
    grace_seconds: float = setting(
        25.0, "time from SIGTERM to SIGKILL that the platform gives, with a margin",
        when="now", group="process", unit="seconds", ge=1, allow_inf_nan=False,
    )  # fmt: skip
    retry_exit_code: int | None = setting(
        None, "the exit code of all that another submission may mend, instead of 74, 75 and 143",
        when="now", group="process", ge=1, le=255,
    )  # fmt: skip
    log_format: Literal["text", "json"] = setting(
        "text", "lines for people or for programs", when="now", group="process"
    )
    debug: bool = setting(False, "show the traceback of every error", when="now", group="process")

    deep: bool = setting(
        False, "verify: load each checkpoint too, and compare it with its record", when="now", group="verify"
    )
    retrain: bool = setting(
        False, "verify: train again from the checkpoint before the newest to the newest, and compare every number",
        when="now", group="verify",
    )  # fmt: skip
    model: str = setting("", "output folder of a job, or the model/ in it: a path or URL", when="now", group="use")
    input: str = setting(
        "", "requests: a file or URL of JSON lines, a .txt of plain lines, or - for stdin", when="now", group="use"
    )
    output: str = setting(
        "", "file or URL for the answers, or - for stdout (predict), or for the scores as JSON (evaluate)",
        when="now", group="use",
    )  # fmt: skip

    @model_validator(mode="after")
    def _agree(self) -> "JobConfig":
        """Every rule that is about more than one setting, or that a bound cannot say."""
        if self.micro_batch_size > self.batch_size:
            raise ValueError(f"--micro_batch_size {self.micro_batch_size}: is above --batch_size {self.batch_size}")
        if self.endpoint_url is not None and not ADDRESS.fullmatch(self.endpoint_url):
            raise ValueError(f"--endpoint_url {self.endpoint_url}: must be an address such as https://host:9000")
        if self.save_every == "epoch" and self.save_every_seconds is not None:
            raise ValueError(f"--save_every epoch: does not go with --save_every_seconds {self.save_every_seconds:g}")
        promote.parse(self.promote_if)
        if self.retry_exit_code in _TAKEN_EXIT_CODES:
            raise ValueError(f"--retry_exit_code {self.retry_exit_code}: means already that a retry does not help")
        return self


def is_for_training(field: FieldInfo) -> bool:
    """Whether the training job reads it."""
    return group_of(field) not in ("use", "verify")


def group_of(field: FieldInfo) -> str:
    """The group of `--help`."""
    return str(_extra(field)["group"])


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    assert isinstance(extra, dict), "every field is made by `setting`"
    return dict(extra)


FIELDS: Mapping[str, FieldInfo] = dict(
    sorted(
        ((field.alias or name, field) for name, field in JobConfig.model_fields.items()),
        key=lambda item: list(GROUPS).index(group_of(item[1])),
    )
)
"""Every setting by the name that it has outside (command line, variables, files), in the order of `--help`."""


def class_of(field: FieldInfo) -> Class:
    """When the setting is read: run, round or now."""
    return _extra(field)["class"]  # type: ignore[no-any-return]  # what `setting` put there


def unit_of(field: FieldInfo) -> str:
    """The unit of its number; "" where it has none."""
    return str(_extra(field)["unit"])


def settings_by_class(config: JobConfig, when: Class) -> dict[str, Any]:
    """The settings of one class as plain JSON values, by name: what a checkpoint stores and `changed` compares."""
    values = config.model_dump(mode="json", by_alias=True)
    return {name: values[name] for name, field in FIELDS.items() if class_of(field) == when}


def changed(current: Mapping[str, Any], stored: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(setting, found in the folder, expected by this submission) for each of `current` that differs.

    A setting that the folder does not know yet had its default when it was written.
    """
    found = {**JobConfig().model_dump(mode="json", by_alias=True), **stored}
    return [(name, found[name], expected) for name, expected in current.items() if found[name] != expected]
