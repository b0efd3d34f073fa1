"""The exported model, loaded to be used: a local folder is all it takes, no ledger, optimizer or bucket."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from trainer.errors import CheckpointError, DataError, Incompatible, SettingError
from trainer.nn.growing import join
from trainer.settings import fields_of
from trainer.state import check_complete, check_fits
from trainer.task import BUILT_IN, Task, TaskSettings, find_task, gives_answers, parse_settings
from trainer.vocabulary import Vocabulary

CONFIG = "config.json"
FORMAT = 1
MAX_CONFIG_BYTES = 2**28
BATCH_SIZE = 64


class BadRequest(DataError):
    """A request that cannot be asked: its number, from 0, and what is wrong with it."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained network with all that is needed to ask it. `config` is what config.json says."""

    task: Task
    net: nn.Module
    vocabulary: Vocabulary
    config: Mapping[str, Any]

    @torch.inference_mode()
    def answers(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the network says to each request, as JSON.

        Raises BadRequest for one that cannot be asked, SettingError where the task answers none.
        """
        task = self.task
        if not gives_answers(type(task)):
            name = type(task).__name__
            raise SettingError(f"task {name}: answers no requests: its class lacks `question` and `answers`")
        examples = [self._question(number, request) for number, request in enumerate(requests)]
        sizes = [len(str(request.get(task.request_field))) for request in requests]
        order = sorted(range(len(examples)), key=sizes.__getitem__)  # texts of about one length: little is padded
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            said = task.answers(self.net, [examples[number] for number in chosen], self.vocabulary)
            found |= {number: dict(answer) for number, answer in zip(chosen, said, strict=True)}
        return [found[number] for number in range(len(examples))]

    def _question(self, number: int, request: Mapping[str, Any]) -> Any:
        try:
            return self.task.question(request)
        except ValueError as error:
            raise BadRequest(str(error), number) from error


def load(
    folder: Path,
    task: str = "",
    sets: Mapping[str, str] | None = None,
    device: torch.device | None = None,
    cache_directory: Path | None = None,
) -> Model:
    """The model in `folder`, which holds config.json and the weights that it names.

    `task` is only needed for one that is not built in: where its class lies (./file.py:Class). `sets` are settings of
    the task that hold instead of those stored. What takes long to compute is kept below `cache_directory`, if given.
    Raises CheckpointError for files that are missing or not what was written, SettingError and Incompatible for a task
    or settings that the model was not made with.
    """
    config = _config(folder / CONFIG)
    weights = _weights(folder, config)
    made = find_task(_task_name(config, task))()
    made.settings = _settings(made.Settings, config, sets or {})
    made.cache_directory = cache_directory
    vocabulary = Vocabulary.from_dict(config["vocabulary"])
    net = made.build(vocabulary)
    check_fits(net.state_dict(), weights)
    check_complete(net.state_dict(), weights)
    net.load_state_dict(dict(weights))
    join(net)
    return Model(task=made, net=net.eval().to(device), vocabulary=vocabulary, config=config)


def _config(path: Path) -> dict[str, Any]:
    """What config.json says, its form checked as far as it is used here."""
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent}: no exported model there: {CONFIG} is missing") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}; export it again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(f"{path}: found format {found}, expected {FORMAT}; it is no model that can be used here")
    forms = {"task": str, "set": dict, "vocabulary": dict, "weights": dict}
    for name, form in forms.items():
        if not isinstance(config.get(name), form):
            raise CheckpointError(f"{path}: {name} is missing or of a wrong form; export it again")
    return config


def _weights(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors, whose digest must be the recorded one."""
    path = folder / Path(str(config["weights"].get("file"))).name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}; {CONFIG} names it") from error
    found, expected = hashlib.sha256(content).hexdigest(), config["weights"].get("sha256")
    if found != expected:
        raise CheckpointError(f"{path}: found SHA-256 {found}, expected {expected}; fetch or export it again")
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def _task_name(config: Mapping[str, Any], given: str) -> str:
    """The task to load: the built-in one that is recorded, or where the caller says that its class lies."""
    name = str(config["task"])
    if given and given.rpartition(":")[2] != name:
        raise SettingError(f"--task {given}: the model was trained by task {name}")
    if not given and name not in BUILT_IN:
        raise SettingError(f"--task: the model was trained by task {name}; say where it is: --task ./file.py:{name}")
    return given or name


def _settings(kind: type[TaskSettings], config: Mapping[str, Any], sets: Mapping[str, str]) -> TaskSettings:
    """The stored settings, with those of `sets` in their place; Incompatible where one of these is fixed.

    What is stored is not looked at before: where something lay when the model was trained, it may lie no longer.
    """
    given = parse_settings(kind, sets) if sets else None
    chosen = {name: getattr(given, name) for name in sets}
    fixed = fields_of(given, "run") if given else {}
    for name in fixed.keys() & sets.keys() & config["set"].keys():
        if (found := config["set"][name]) != fixed[name]:
            raise Incompatible(f"--set {name}: found {found} in the model, expected {fixed[name]}")
    try:
        return kind.model_validate({**config["set"], **chosen})
    except ValidationError as error:
        fault = error.errors()[0]
        raise Incompatible(
            f"set: {'.'.join(map(str, fault['loc']))}: {fault['msg']}; export the model again"
        ) from error
