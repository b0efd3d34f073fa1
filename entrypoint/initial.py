"""`--init_from`: a new folder begins with the network that another run's newest checkpoint holds."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from cloud.errors import NoSuchBucket
from cloud.folder import Chosen, OutputFolder
from cloud.open import is_same, open_store
from cloud.urls import without_credentials
from entrypoint.errors import SettingsError
from entrypoint.places import options
from entrypoint.resume import payload_of, run_settings
from entrypoint.settings import JobConfig
from trainer.checkpoint import Payload
from trainer.errors import Incompatible
from trainer.optim import named_state
from trainer.plan import Progress
from trainer.state import TrainState, kind_of, restored
from trainer.task import Task
from trainer.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Initial:
    """What the first round of a folder starts from; `origin` names it, for people and for the ledger."""

    origin: str
    state: TrainState


def initial(config: JobConfig, task: Task, device: torch.device, check: Callable[[], None]) -> Initial | None:
    """The state of the run that --init_from names, as untrained in this folder; None when none is named.

    SettingsError when there is no checkpoint; Incompatible, with setting, found and expected, when it does not fit.
    """
    if not config.init_from:
        return None
    url = without_credentials(config.init_from)
    chosen = _newest(config, url, check)
    payload = payload_of(chosen)
    _check_task(config, task, payload, url)
    try:
        state = _restored(task, payload, config, device)
    except Incompatible as error:
        raise Incompatible(f"--init_from {url}: {payload.name} does not fit this task: {error}") from error
    return Initial(origin=f"{chosen.record.name} of {url}", state=state)


def _newest(config: JobConfig, url: str, check: Callable[[], None]) -> Chosen:
    if is_same(str(config.init_from), config.train_url):
        raise SettingsError(f"--init_from {url}: is --train_url itself, which is continued without it; leave it out")
    chosen = None
    with suppress(NoSuchBucket):
        chosen = OutputFolder(open_store(str(config.init_from), options(config))).choose(check)
    if chosen is None:
        raise SettingsError(f"--init_from {url}: no checkpoint there; name the output folder of a run")
    return chosen


def _check_task(config: JobConfig, task: Task, payload: Payload, url: str) -> None:
    """What shapes the network must be as it was; seed, evaluation and the like are this folder's own business."""
    stored, own = payload.settings.get("run", {}), run_settings(config, task)
    if stored.get("task") != own["task"]:
        raise Incompatible(f"--task: found {stored.get('task')} in --init_from {url}, expected {config.task}")
    found = stored.get("set") or {}
    for name, expected in own["set"].items():
        if name in found and found[name] != expected:
            raise Incompatible(
                f"--set {name}: found {found[name]} in --init_from {url}, expected {expected}; a network that another "
                "run trained keeps its form: take over what was found, or train from scratch"
            )


def _restored(task: Task, payload: Payload, config: JobConfig, device: torch.device) -> TrainState:
    """Network, vocabulary and, where the optimizer is of the same kind, its moments; no progress."""
    vocabulary = Vocabulary.from_dict(payload.vocabulary)
    names = named_state(payload.optimizer, task.build(vocabulary))
    if kind_of(names) != config.optimizer:
        payload = replace(payload, optimizer={"state": {}, "param_groups": []})
    return restored(task, replace(payload, progress=Progress()), vocabulary, config, device)
