"""`perdure verify --deep`: a checkpoint is loaded as a submission would load it, and compared with its record."""

from cloud.errors import Damaged
from cloud.records import Record
from cloud.store import Store
from cloud.verifying import whole_file
from entrypoint.stop import Stop
from trainer import checkpoint, contents
from trainer.checkpoint import Payload
from trainer.errors import CheckpointError


def load(store: Store, record: Record, stop: Stop) -> Payload:
    """The content of a checkpoint whose bytes are right."""
    return checkpoint.read(*(whole_file(store, file, stop.check) for file in record.parts))


def check(store: Store, record: Record, stop: Stop) -> None:
    """Damaged when a checkpoint cannot be loaded, holds what is not finite, or something else than its record says."""
    try:
        problem = _problem(load(store, record, stop), record)
    except CheckpointError as error:
        problem = str(error)
    if problem:
        raise Damaged(problem)


def _problem(payload: Payload, record: Record) -> str:
    """What is wrong with the content of a whole file, or ""."""
    if name := contents.not_finite(payload.net):
        return f"parameter {name} is not finite"
    progress = payload.progress
    for name, found, expected in (
        ("epoch", progress.epoch, record.epoch),
        ("global_step", progress.global_step, record.global_step),
        ("round", progress.round, record.round),
        ("settings", payload.settings, record.settings),
        ("net_sha256", contents.trained_digest(vars(payload)), record.net_sha256),
    ):
        if found != expected and expected is not None:
            return f"{name}: found {found}, its record says {expected}"
    return ""
