"""`perdure verify --retrain`: take the steps before the newest checkpoint again, and compare every number."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cloud.cache import ShardCache
from cloud.errors import Damaged
from cloud.folder import OutputFolder
from cloud.pruning import continued
from cloud.records import Record
from cloud.store import Store
from cloud.survey import survey
from cloud.transfer import Digester, digest_file
from entrypoint.console import Console
from entrypoint.console import Progress as Bar
from entrypoint.deep import load
from entrypoint.errors import SettingsError
from entrypoint.places import cache_directory, open_data
from entrypoint.rebuild import read_ledger
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.checkpoint import Payload
from trainer.contents import first_difference
from trainer.data import Loader
from trainer.device import pick_device
from trainer.errors import DataError
from trainer.ledger import Ledger, Shard
from trainer.loop import EpochEnd, Training
from trainer.opened import OpenShards
from trainer.parts import new_examples, parts_of
from trainer.plan import Progress, settings_of, target
from trainer.settings import TrainSettings
from trainer.snapshot import HostCopy
from trainer.state import grown, new_state, restored
from trainer.task import BUILT_IN, Task, find_task
from trainer.vocabulary import Vocabulary
from trainer.world import World


def retrain(records: Sequence[Record], store: Store, config: JobConfig, stop: Stop, console: Console) -> None:
    """Train from the checkpoint before the newest of `records` (all whole, newest first) to the newest, in memory.

    Task and settings are those of the checkpoints. Damaged names the first tensor that differs.
    """
    if not config.data_url:
        raise SettingsError("--data_url: is required for --retrain (or PERDURE_DATA_URL)")
    if not records:
        return
    record = records[0]
    ledger = read_ledger(OutputFolder(store), record)
    base = _base(records, store, ledger)
    goal = load(store, record, stop)
    start = None if base is None else load(store, base, stop)
    ledger = read_ledger(OutputFolder(store), record)
    with (
        _again(config, goal, start, ledger, stop) as again,
        console.progress(again.num_steps, "retrain", "steps", tells_end=False) as bar,
    ):
        again.run(bar)
    place = "the beginning" if base is None else base.name
    text = f"{record.name} from {place}: {again.num_steps} steps taken again on {again.state.device}"
    found = HostCopy().take({**again.state.state_dict(), "net": again.state.net.state_dict()})
    for part, expected in (("net", goal.net), ("optimizer", goal.optimizer), ("scaler", goal.scaler)):
        if difference := first_difference(expected, found[part], part):
            raise Damaged(f"{text}: {difference}{_excuse(goal, again.state.device)}")
    console.line("retrain", f"{text}: bit for bit the same")


def _base(records: Sequence[Record], store: Store, ledger: Ledger) -> Record | None:
    """The newest checkpoint that steps were taken since; None for the beginning of a run that has no older one."""
    newest = records[0]
    for record in continued(records):
        if record.global_step < newest.global_step:
            if newest.round > record.round + 1:
                break
            return record
    if newest.round > 1 or survey(store).foreign or ledger.header(1).get("starts_from"):
        raise Damaged(f"{newest.name}: no older checkpoint is there from which its steps could be taken again")
    return None


def _task(config: JobConfig, goal: Payload) -> Task:
    """The task that the folder was trained with; where its file lies only the user can say."""
    stored = str(goal.settings["run"]["task"])
    name = config.task or stored
    if not config.task and stored not in BUILT_IN:
        raise SettingsError(f"--task: is required: the folder was trained with {stored}, of a file that is not known")
    if name.rpartition(":")[2] != stored:
        raise SettingsError(f"--task {name}: the folder was trained with {stored}")
    return find_task(name)()


def _with(task: Task, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Give the task its settings of all three classes, as they were."""
    sets = [part.get("set") or {} for part in (settings["run"], fixed, settings.get("now", {}))]
    task.settings = task.Settings.model_validate({name: value for part in sets for name, value in part.items()})


def _excuse(goal: Payload, device: torch.device) -> str:
    """What was otherwise when it was trained, if anything."""
    now = {"device": device.type, "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    then = goal.settings.get("now", {})
    differing = [f"{name} {then[name]}, here {value}" for name, value in now.items() if then.get(name, value) != value]
    return f" (it was trained with {'; '.join(differing)})" if differing else ""


@dataclass
class _Again:
    """Steps that were taken before, on their way from one state to `goal`."""

    task: Task
    config: JobConfig
    goal: Payload
    start: Payload | None
    ledger: Ledger
    opened: OpenShards
    stop: Stop
    device: torch.device

    def __post_init__(self) -> None:
        end = self.goal.progress
        first = self.start.progress.round if self.start else 1
        self.vocabulary = Vocabulary.from_dict((self.start or self.goal).vocabulary)
        settings = self._settings(first)
        if self.start is None:
            self.state = new_state(self.task, self.vocabulary, settings, self.device)
            self.state.progress = Progress().in_round(1)
            self._begin(1)
        else:
            self.state = restored(self.task, self.start, self.vocabulary, settings, self.device)
        self.num_steps = end.global_step - self.state.progress.global_step

    def run(self, bar: Bar) -> None:
        """Up to the step of the goal, in its round and the one before, evaluating nothing."""
        end = self.goal.progress
        if self.state.progress.round < end.round:
            self._train(self._first_epoch(), bar)
            settings = self._settings(end.round)
            self.state = grown(self.state, self.task, Vocabulary.from_dict(self.goal.vocabulary), settings)
            self.state.progress = self.state.progress.in_round(end.round)
            self._begin(end.round)
        self._train(None, bar)

    def _begin(self, number: int) -> None:
        """What comes before the first step of a round."""
        new = new_examples(self.ledger.round(number), self.opened, self.stop.check)
        self.task.begin_round(self.state.net, self.state.vocabulary, new)

    def _first_epoch(self) -> int:
        """How many epochs there were when the goal's round began."""
        end = self.goal.progress
        round = self.ledger.round(end.round)
        done = end.example // target(round, self._settings(end.round), end).epoch_examples
        return end.epoch - done + (end.waits_for == "evaluate" and end.example > 0)

    def _train(self, last_epoch: int | None, bar: Bar) -> None:
        """Train the round that the state is in, up to an epoch or to the step of the goal."""
        state, end = self.state, self.goal.progress
        if state.progress.epoch == last_epoch:
            return
        for epoch_end in self._steps():
            if epoch_end is None:
                bar.update()
            if state.progress.global_step == end.global_step or (epoch_end and state.progress.epoch == last_epoch):
                return
        self.stop.check()
        raise Damaged(f"{self.goal.name}: its round ends at step {state.progress.global_step} under these settings")

    def _steps(self) -> Iterator[EpochEnd | None]:
        number = self.state.progress.round
        round, settings = self.ledger.round(number), self._settings(number)
        goal = target(round, settings, self.state.progress)
        vocabulary = self.state.vocabulary
        loader = Loader(round, goal, self.opened, vocabulary, settings.seed, World())
        training = Training(self.task, self.state, loader, settings)
        return training.run(lambda _: {}, lambda: self.stop.requested is not None)

    def _settings(self, number: int) -> TrainSettings:
        """Those that held in a round, by the newer of the checkpoints that are in it; and the task has its own."""
        payload = self.goal if self.start is None or number == self.goal.progress.round else self.start
        fixed = self.ledger.header(number)["settings"]
        _with(self.task, payload.settings, fixed)
        run = {name: value for name, value in payload.settings["run"].items() if name not in ("task", "set")}
        now = payload.settings.get("now", {})
        known = {name: value for name, value in now.items() if name not in ("set", "device", "threads", "torch")}
        values = {**self.config.model_dump(), **run, **known, "early_stopping_epochs": 0}
        return settings_of({**fixed, "early_stopping_epochs": 0}, JobConfig.model_validate(values))


def _check_shards(data: Store, goal: Payload, start: Payload | None, ledger: Ledger, stop: Stop) -> None:
    """DataError where a shard of the rounds is gone, or is read in place and has other content by now."""
    first = start.progress.round if start else 1
    parts = [part for number in range(first, goal.progress.round + 1) for part in parts_of(ledger.round(number))]
    for shard in {part.shard.sha256: part.shard for part in parts}.values():
        path = data.local_path(shard.key)
        try:
            if data.stat(shard.key).size == shard.size and (path is None or _sha256(path, shard, stop) == shard.sha256):
                continue
            what = "edited"
        except FileNotFoundError:
            what = "gone"
        raise DataError(f"{shard.key}: {what} since it was trained, so that the steps cannot be taken again")


def _sha256(path: Path, shard: Shard, stop: Stop) -> str:
    digester = Digester()
    digest_file(path, size=shard.size, digester=digester, check=stop.check)
    return digester.sha256()


@contextmanager
def _again(config: JobConfig, goal: Payload, start: Payload | None, ledger: Ledger, stop: Stop) -> Iterator[_Again]:
    """The state to start from, and the shards it needs."""
    task = _task(config, goal)
    threads = config.threads or int(goal.settings.get("now", {}).get("threads", 0))
    device = pick_device(config.model_copy(update={"threads": threads}))
    directory = cache_directory(config)
    task.cache_directory = directory / "task"
    task.max_shard_bytes = int(config.max_shard_bytes)
    data = open_data(config)
    _check_shards(data, goal, start, ledger, stop)
    cache = ShardCache(data, directory, config.cache_bytes, check=stop.check)
    try:
        decoded, disk_bytes = directory / "decoded", int(config.decoded_bytes)
        opened = OpenShards(task, cache, config.memory_bytes, folder=decoded, disk_bytes=disk_bytes)
        yield _Again(task, config, goal, start, ledger, opened, stop, device)
    finally:
        cache.close()
