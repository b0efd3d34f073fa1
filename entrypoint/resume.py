"""Continuing from the checkpoint that was chosen, ours or somebody's own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cloud.errors import Damaged
from cloud.folder import OutputFolder
from cloud.open import open_store
from cloud.records import FileDigest, Record, Rejected
from cloud.urls import without_credentials
from entrypoint.attempt import Attempt
from entrypoint.errors import SettingsError
from entrypoint.places import options
from entrypoint.settings import JobConfig, changed, settings_by_class
from trainer import checkpoint
from trainer.checkpoint import Payload
from trainer.errors import CheckpointError, Incompatible
from trainer.ledger import Ledger, Lines
from trainer.plan import TARGETS, Progress, settings_of
from trainer.settings import fields_of
from trainer.state import TrainState, restored
from trainer.task import Task, in_round
from trainer.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """Where training goes on. `adopted` is somebody's own checkpoint: its network waits for the labels of round 1."""

    name: str | None
    rejected: tuple[Rejected, ...]
    ledger: Ledger = field(default_factory=Ledger)
    ledger_files: tuple[FileDigest, ...] = ()
    state: TrainState | None = None
    adopted: Payload | None = None


def resume(
    attempt: Attempt, task: Task, config: JobConfig, device: torch.device, scratch: Path, check: Callable[[], None]
) -> Resumed:
    """The state of the newest good checkpoint. All of it is checked before any is applied.

    Raises Incompatible for a whole checkpoint that does not fit the settings: never a reason to take an older one.
    """
    if attempt.chosen is None:
        name, content, rejected = newest_foreign(attempt.reading, config, scratch, check)
        return Resumed(name=name, rejected=rejected, adopted=content)
    record, path = attempt.chosen.record, attempt.chosen.path
    payload = checkpoint.read(path)
    if attempt.chosen.is_copy:
        path.unlink()
    check_run_settings(config, task, payload.settings.get("run", {}))
    ledger = read_ledger(attempt.reading, record)
    fixed = ledger.header(record.round)["settings"]
    settings = settings_of(fixed, config)
    task.settings = in_round(task.settings, fixed.get("set", {}))
    vocabulary = Vocabulary.from_dict(payload.vocabulary)
    with _fitting(payload, config):
        state = restored(task, payload, vocabulary, settings, device)
    return Resumed(
        name=record.name,
        rejected=attempt.reading.rejected,
        ledger=ledger,
        ledger_files=record.ledgers,
        state=state,
    )


@contextmanager
def _fitting(payload: Payload, config: JobConfig) -> Iterator[None]:
    """Say of which checkpoint it is that something does not fit, and what to do."""
    try:
        yield
    except Incompatible as error:
        raise Incompatible(
            f"{payload.name} in {config.train_url} does not fit this task: {error}; "
            "go back to the task and settings it was trained with, or use another --train_url"
        ) from error


def read_ledger(folder: OutputFolder, record: Record) -> Ledger:
    """The rounds that a record names."""

    def lines(file: FileDigest) -> Lines:
        return lambda: folder.read_ledger(file)

    return Ledger(tuple(lines(file) for file in record.ledgers))


def rounds_of(config: JobConfig) -> Ledger:
    """The ledger of the run that --rounds_from names."""
    folder = OutputFolder(open_store(str(config.rounds_from), options(config)))
    records = folder.records()
    if not records:
        url = without_credentials(str(config.rounds_from))
        raise SettingsError(f"--rounds_from {url}: no checkpoint there; name the output folder of a run")
    return read_ledger(folder, records[0])


def adopted(
    payload: Payload, task: Task, config: JobConfig, device: torch.device, vocabulary: Vocabulary, num_examples: int
) -> TrainState:
    """The state of somebody's own checkpoint: its epochs of `num_examples` count as trained, the next one begins."""
    epoch = payload.progress.epoch
    trained = epoch * num_examples
    progress = Progress(
        round=1,
        epoch=epoch,
        global_step=epoch * -(-num_examples // config.batch_size),
        num_examples=trained,
        example=trained,
        best_epoch=epoch,
    )
    with _fitting(payload, config):
        return restored(task, replace(payload, progress=progress), vocabulary, config, device)


def run_settings(config: JobConfig, task: Task) -> dict[str, Any]:
    """The settings fixed for the folder; the task's own with the values that hold, not the texts they came as."""
    fixed = settings_by_class(config, "run")
    return {**fixed, "task": task_name(config), "set": fields_of(task.settings, "run")}


def task_name(config: JobConfig) -> str:
    """What a folder calls its task: a built-in name, or the class, wherever its file lies today."""
    return config.task.rpartition(":")[2]


def now_settings(config: JobConfig, task: Task, device: torch.device) -> dict[str, Any]:
    """What else decided about the steps: a resume never reads it, whoever trains them again does."""
    values = config.model_dump(mode="json", include={*TARGETS, "weight_decay", "learning_rate_factor"})
    sets = fields_of(task.settings, "now")
    machine = {"device": device.type, "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    return {**values, "set": sets, **machine}


def check_run_settings(config: JobConfig, task: Task, stored: Mapping[str, Any]) -> None:
    """Incompatible, with setting, found and expected, when the folder was written with other settings for its run."""
    url, own = config.train_url, run_settings(config, task)
    if stored.get("task") != own["task"]:
        found = stored.get("task")
        raise Incompatible(f"--task: found {found} in {url}, expected {config.task}; use another --train_url")
    found_sets, sets = dict(stored.get("set") or {}), own.pop("set")
    differing = [(f"--set {name}", found_sets[name], value) for name, value in sets.items() if name in found_sets]
    rest = {name: value for name, value in stored.items() if name != "set"}
    differing += [(f"--{name}", found, expected) for name, found, expected in changed(own, rest)]
    for setting, found, expected in differing:
        if found != expected:
            raise Incompatible(
                f"{setting}: found {found} in {url}, expected {expected}; it is fixed for a folder: "
                "go back to what was found, or use another --train_url"
            )


def newest_foreign(
    folder: OutputFolder, config: JobConfig, scratch: Path, check: Callable[[], None]
) -> tuple[str | None, Payload | None, tuple[Rejected, ...]]:
    """Somebody's own checkpoint of the highest epoch that can be read: its name, content, and what was passed over.

    Name and content are None when there is none; Damaged when there are some and none can be read.
    """
    reasons: list[str] = []
    for file in folder.foreign(scratch, check):
        try:
            return file.name, checkpoint.read(file.path), folder.rejected
        except CheckpointError as error:
            reasons.append(str(error))
            folder.rejected += (Rejected(file.name, reasons[-1].removeprefix(f"{file.name}: ")),)
    if reasons and not config.start_over:
        raise Damaged(
            f"no checkpoint in {config.train_url} can be read ({reasons[0]}); "
            "put back one that can, or train from scratch with --start_over"
        )
    return None, None, folder.rejected
