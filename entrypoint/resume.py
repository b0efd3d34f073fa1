"""Continuing from the checkpoint that was chosen, ours or somebody's own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cloud.allocator import give_back
from cloud.errors import Damaged
from cloud.folder import Chosen, OutputFolder
from cloud.records import FileDigest, Record, Rejected
from entrypoint.attempt import Attempt
from entrypoint.rebuild import OfNoUse, found_rounds
from entrypoint.rounds import Rounds
from entrypoint.settings import JobConfig, changed, settings_by_class
from trainer import checkpoint
from trainer.checkpoint import Payload
from trainer.errors import CheckpointError, Incompatible
from trainer.ledger import Ledger
from trainer.outline import Outline
from trainer.plan import TARGETS, Progress, settings_of
from trainer.settings import fields_of
from trainer.state import TrainState, restored
from trainer.task import Task, in_round
from trainer.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """Where training goes on. `adopted` is somebody's own checkpoint: its network waits for the labels of round 1.

    `healed` is the record whose ledger was lost and found out anew: its checkpoint must be saved with the new one.
    """

    name: str | None
    rejected: tuple[Rejected, ...]
    ledger: Ledger = field(default_factory=Ledger)
    ledger_files: tuple[FileDigest, ...] = ()
    outlines: tuple[Outline, ...] = ()
    state: TrainState | None = None
    adopted: Payload | None = None
    healed: Record | None = None


def resume(attempt: Attempt, task: Task, config: JobConfig, device: torch.device, rounds: Rounds) -> Resumed | None:
    """The state of the newest good checkpoint, all of it checked before any is applied; None where there is none.

    Raises Incompatible for a whole checkpoint that does not fit the settings: never a reason to take an older one. One
    whose ledger is lost, and cannot be found out from the data, is a reason, and one of another run, which somebody
    put here; Damaged when none is left.
    """
    given_up: dict[FileDigest, str] = {}
    while (chosen := attempt.chosen) is not None:
        record, payload = chosen.record, payload_of(chosen)
        try:
            _check_own(attempt, record, payload, config, task)
            found = found_rounds(attempt, chosen, payload, rounds)
        except OfNoUse as error:
            given_up |= error.files
            attempt = attempt.without(given_up)
            continue
        return Resumed(
            name=record.name,
            rejected=attempt.reading.rejected,
            ledger=found.ledger,
            ledger_files=found.files,
            outlines=found.outlines,
            state=_state(payload, found.ledger.header(record.round)["settings"], task, config, device),
            healed=record if found.files != record.ledgers else None,
        )
    return None


def payload_of(chosen: Chosen) -> Payload:
    """The content of a verified checkpoint, of which nothing else stays on this machine."""
    with closing(chosen):
        return checkpoint.read(chosen.file, chosen.frozen)


def _state(
    payload: Payload, fixed: Mapping[str, Any], task: Task, config: JobConfig, device: torch.device
) -> TrainState:
    settings = settings_of(fixed, config)
    task.settings = in_round(task.settings, fixed.get("set", {}))
    vocabulary = Vocabulary.from_dict(payload.vocabulary)
    with _fitting(payload, config):
        state = restored(task, payload, vocabulary, settings, device)
    give_back()  # what was copied out of the payload: the gradients are about to need as much
    return state


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
    values = config.model_dump(mode="json", include={*TARGETS, "weight_decay", "learning_rate_factor", "compile"})
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


def _check_own(attempt: Attempt, record: Record, payload: Payload, config: JobConfig, task: Task) -> None:
    """Incompatible when the checkpoint does not fit the settings; OfNoUse when those before it do."""
    try:
        check_run_settings(config, task, payload.settings.get("run", {}))
    except Incompatible as error:
        if not _is_anothers(record, attempt, config, task):
            raise
        what = str(error).partition(";")[0]
        raise OfNoUse({record.object: f"of another run than the checkpoints before it: {what}"}) from error


def _is_anothers(newest: Record, attempt: Attempt, config: JobConfig, task: Task) -> bool:
    """Whether an older checkpoint, with other settings fixed for the folder, does fit: they are not of one run."""
    for record in attempt.folder.records():
        run = record.settings.get("run")
        if isinstance(run, dict) and _differ(run, newest.settings.get("run")):
            with suppress(Incompatible):
                check_run_settings(config, task, run)
                return True
    return False


def _differ(one: Mapping[str, Any], other: Any) -> bool:
    """Whether two checkpoints tell of other settings, as far as both know them: versions may add some."""
    both = one.keys() & other.keys() if isinstance(other, dict) else ()
    return any(
        _differ(one[name], other[name]) if isinstance(one[name], dict) else one[name] != other[name] for name in both
    )


def adoptable(folder: OutputFolder, config: JobConfig, scratch: Path, check: Callable[[], None]) -> Resumed:
    """Somebody's own checkpoint, if one is there."""
    name, content, rejected = newest_foreign(folder, config, scratch, check)
    return Resumed(name=name, rejected=rejected, adopted=content)


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
