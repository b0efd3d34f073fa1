"""What differs between trainings: the protocol of a task, and how one is found by name, path or module."""

import difflib
import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from trainer.arrays import gathered
from trainer.compressed import MAX_BYTES
from trainer.errors import SettingError
from trainer.ledger import Round
from trainer.settings import TrainSettings, fields_of
from trainer.vocabulary import Vocabulary

Scores = Mapping[str, Any]
Given = TypeVar("Given", bound=TrainSettings)

BUILT_IN = {"images": "trainer.tasks.images:Images", "nlu": "trainer.tasks.nlu.task:NLU"}
REQUIRED = ("suffixes", "read", "build", "collate", "loss", "predict", "scores")
UNREADABLE = (ValueError, EOFError, LookupError, TypeError, AttributeError)
"""What a task's code raises for content that is not as it expects: ValueError, or what comes of itself."""
IMPORT_ERRORS = (
    ImportError, SyntaxError, OSError, NameError, AttributeError, TypeError, ValueError, LookupError, RuntimeError
)  # fmt: skip
"""What a user's module raises when it cannot be loaded; anything else is shown with its traceback."""


class TaskSettings(BaseModel):
    """Base of a task's own settings (`--set name=value`): frozen, unknown names refused.

    A plain pydantic field is fixed for a folder; `trainer.settings.setting(..., when="round")` makes one that is read
    when a round starts, `when="now"` one that is read at every submission.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Protocol):
    """Subclass it, name the suffixes, and write at least `read`, `build`, `collate`, `loss`, `predict`, `scores`.

    The job sets `settings` to an instance of the class's `Settings` and then calls the methods; a task keeps
    no other state that matters, so that every attempt behaves alike. All randomness comes from torch's default
    generator (in the network) or from the `seeds` given to `collate`.
    """

    Settings: type[TaskSettings] = TaskSettings
    settings: TaskSettings
    suffixes: tuple[str, ...]
    """File names that are shards, e.g. (".tar",); compressed ones (".tar.gz") are then shards too."""
    best_metric: str = ""
    """The score that tells a better checkpoint (higher is better; "-name" where lower is); "" when there is none."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of training (`epochs`, `learning_rate`, ...) that hold for this task where none were given."""
    scores_unknown_labels: ClassVar[bool] = False
    """Whether `collate`, `predict` and `scores` take evaluation examples of labels that no training shard has."""
    frozen: ClassVar[tuple[str, ...]] = ()
    """What names in the network's state begin with that training never changes, such as ("encoder.",): stored once in
    the output folder, not with every checkpoint. `build` calls requires_grad_(False) on it."""
    cache_directory: Path | None = None
    """A folder for what takes long to compute; it may stay from one submission to the next. The job sets it."""
    round: Round | None = None
    """The round that is trained, None where nothing is: what depends on it alone is the same for every attempt. The
    loop sets it."""
    max_shard_bytes: int = MAX_BYTES
    """What the content of a shard may be at most, once decompressed: `--max_shard_bytes`. The job sets it."""

    def preferred(self) -> Mapping[str, Any]:
        """`defaults`, or what goes better with the task's own settings."""
        return self.defaults

    def read(self, path: Path) -> Sequence[Any]:
        """The examples of a local shard, by index; those that must hold files open close them with `close()`.

        Raises ValueError when it is unusable, NotAShard when it is something else that may lie there. Indexing a bad
        example raises ValueError (BadExample), each time. A sequence may have `resources`: what a shard says beside
        its examples, for `grow`.
        """
        raise NotImplementedError

    def label(self, example: Any) -> str | None:
        """What old data is balanced by, what forgetting is reported for; None where there is none."""
        return None

    def key(self, example: Any) -> str | None:
        """What tells this example from the others when its shard is edited; None where there is none."""
        return None

    def grow(self, vocabulary: Vocabulary, labels: Iterable[str], examples: Iterable[Any]) -> Vocabulary:
        """The vocabulary for a round: `labels` and `examples` are those the round brings; default: the labels.

        Among `examples`, ahead of those of their shard, are its `resources`, where it has any.
        """
        return vocabulary.add("label", labels)

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        """The network for a vocabulary, with new parameters drawn from torch's default generator.

        Parameters of a smaller vocabulary keep name and shape when it grows: new names get new parameters.
        """
        raise NotImplementedError

    def begin_round(self, net: nn.Module, vocabulary: Vocabulary, examples: Iterable[Any]) -> None:
        """Called once in each round, after growth and before the first step, with the examples that are new.

        For what a network takes from data otherwise than by steps, such as sums over all examples ever, in buffers that
        `state_dict` has: a resume finds them in the checkpoint. As a step does, it may move what the network says of
        old examples. It should not depend on the number of torch's threads, which `num_threads` only sets for the
        steps. With `--init_from` all examples of the new folder are new. Default: nothing, and no example is read.
        """

    def take(self, shards: Sequence[Sequence[Any]], which: np.ndarray, indices: np.ndarray) -> Sequence[Any]:
        """The examples `indices[i]` of `shards[which[i]]`, both int64 of shape (n,), in a sequence for `collate`.

        That gets slices of it, or a list of examples. Where examples are rows of arrays, a task that gathers
        them at once (`trainer.arrays.gathered`) spares a line of Python per example; for shards that `read` gives as
        arrays that is done, and `collate` gets an array.
        """
        if all(isinstance(shard, np.ndarray) for shard in shards):
            return gathered(shards, which, indices)  # type: ignore[return-value, arg-type]
        return [shards[number][index] for number, index in zip(which.tolist(), indices.tolist(), strict=True)]

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        """A batch (any nest of tensors, dicts, lists, tuples) of n examples.

        `seeds`, uint64 of shape (n,), are what random augmentation of each example is drawn from; None in evaluation.
        """
        raise NotImplementedError

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch, a scalar: the *sum* over its examples."""
        raise NotImplementedError

    def predict(self, net: nn.Module, batch: Any) -> Sequence[Any]:
        """One item per example (say target and prediction, on the CPU): what `scores` is computed from."""
        raise NotImplementedError

    def scores(self, predictions: Sequence[Any], vocabulary: Vocabulary) -> Scores:
        """Named scores of any number of items of `predict`: floats, or mappings of names to floats."""
        raise NotImplementedError

    label_kinds: ClassVar[tuple[str, ...]] = ("label",)
    """The kinds of names in the vocabulary that `label` returns."""

    def label_today(self, vocabulary: Vocabulary, label: str) -> str:
        """What a label that data says is called today, where a task lets people rename labels."""
        return label

    def waits(self, vocabulary: Vocabulary) -> str | None:
        """What the settings ask for that only the next round will do, as a sentence; None where there is nothing."""
        return None

    request_field: str = "text"
    """The field of a request that holds what is asked about; a line of plain text stands for it."""

    def question(self, request: Mapping[str, Any]) -> Any:
        """The example, without its truth, that a request (a line of `perdure predict`, as JSON) asks about.

        ValueError says what is wrong with it. Optional, as is `answers`.
        """
        raise NotImplementedError

    def answers(self, net: nn.Module, examples: Sequence[Any], vocabulary: Vocabulary) -> Sequence[Mapping[str, Any]]:
        """What the network says of each example that `question` gave, as JSON. The network is in evaluation mode."""
        raise NotImplementedError

    def num_threads(self, net: nn.Module) -> int:
        """How many threads of torch train the network best on a CPU, where `--threads` is not given; 0: torch decides.

        A function of its parameters' sizes and of the settings alone: what a step computes may depend on it.
        """
        return 0

    def clipped_apart(self, net: nn.Module) -> tuple[str, ...]:
        """What names of parameters begin with, such as "head.", whose gradients are clipped apart from the others'.

        Half of `--max_grad_norm` is then theirs, the other half that of the others: where one part's gradients are
        large, steps of the other part are not small. It counts in rounds that train a network further (also one from
        `--init_from`); those that train a new one clip all together, which is the default. What names nothing is
        passed over. It is asked at the beginning of each attempt: an answer of `net` and `round` is always the same.
        """
        return ()

    def right(self, prediction: Any) -> bool | None:
        """Whether an item of `predict` is right: what flips are counted of; None where nobody can say."""
        return None

    def oov_rate(self, vocabulary: Vocabulary, examples: Iterable[Any]) -> float | None:
        """The share of the words (or whatever examples consist of) that the vocabulary lacks; None where none count."""
        return None


def gives_answers(task: type[Task]) -> bool:
    """Whether the task can be asked: whether it has the optional methods `question` and `answers`."""
    return all(getattr(task, name) is not getattr(Task, name) for name in ("question", "answers"))


def make_task(name: str, sets: Mapping[str, str]) -> Task:
    """The task of that name with its settings, taken from the texts of `--set`; SettingError where one does not fit."""
    task = find_task(name)()
    task.settings = parse_settings(task.Settings, sets)
    return task


def with_defaults(settings: Given, task: Task) -> Given:
    """Settings of training in which the task's defaults stand for what was not given; SettingError where one is bad."""
    given = settings.model_dump(include=settings.model_fields_set)
    try:
        return type(settings).model_validate({**task.preferred(), **given})
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise SettingError(f"task {type(task).__name__}: defaults: {place}: {fault['msg']}; mend the task") from error


def in_round(settings: TaskSettings, fixed: Mapping[str, Any]) -> TaskSettings:
    """A task's settings for a round that started with `fixed`: those of class "round" as they were then."""
    held = {name: value for name, value in fixed.items() if name in fields_of(settings, "round")}
    return type(settings).model_validate({**settings.model_dump(), **held})


def find_task(name: str) -> type[Task]:
    """The class for a built-in name, `path/to/file.py:Class` or `module:Class`; SettingError where there is none."""
    place, _, class_name = BUILT_IN.get(name, name).rpartition(":")
    if not place:
        known = ", ".join([*sorted(BUILT_IN), "./file.py:Class", "module:Class"])
        raise SettingError(f"--task {name}: {_suggest(name, BUILT_IN)}the tasks are {known}")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except IMPORT_ERRORS as error:
        raise SettingError(f"--task {name}: {place} cannot be loaded: {_where(error)}{error}") from error
    return _checked(name, module, class_name)


def parse_settings(settings: type[TaskSettings], sets: Mapping[str, str]) -> TaskSettings:
    """Settings from texts, which become the type each setting has; a JSON-quoted string counts as the string."""
    values = {name: _readings(text)[0] for name, text in sets.items()}
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        failed = {str(place) for fault in error.errors() for place in fault["loc"][:1]}
    try:
        return settings.model_validate(values | {name: _readings(sets[name])[-1] for name in failed & sets.keys()})
    except ValidationError as error:
        raise SettingError(_fault(error, settings, sets)) from error


def _load_file(path: Path) -> ModuleType:
    """Run a Python file as a module; it may import its neighbours."""
    spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path.resolve())
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError("no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickle look their classes up
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # last: a neighbour must not hide an installed module
    spec.loader.exec_module(module)
    return module


def _where(error: BaseException) -> str:
    """File and line of the statement that failed, where it is known and the error's text does not say so."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    kind = type(error).__name__
    return f"{Path(own[-1].filename).name} line {own[-1].lineno}: {kind}: " if own else ""


def _checked(name: str, module: ModuleType, class_name: str) -> type[Task]:
    """The class of that name, which must subclass Task and have all that a task must have."""
    tasks = {key: value for key, value in vars(module).items() if isinstance(value, type) and Task in value.__mro__[1:]}
    if class_name not in tasks:
        known = ", ".join(tasks) or "none"
        raise SettingError(f"--task {name}: no subclass of Task is called {class_name} there; there are: {known}")
    found: type[Task] = tasks[class_name]
    lacking = [part for part in REQUIRED if getattr(found, part, None) is getattr(Task, part, None)]
    if lacking:
        raise SettingError(f"--task {name}: the class lacks {', '.join(lacking)}")
    return found


def _readings(text: str) -> list[Any]:
    """What a text may stand for: the text itself, then the JSON value it spells; a quoted string is unquoted first."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    return _readings(value) if isinstance(value, str) else [text, value]


def _fault(error: ValidationError, settings: type[TaskSettings], sets: Mapping[str, str]) -> str:
    """The first fault in one line."""
    fault, known = error.errors()[0], settings.model_fields
    name = ".".join(map(str, fault["loc"]))
    reason = fault["msg"].removeprefix("Value error, ").partition(", unable")[0].replace("Input should", "must")
    if fault["type"] == "extra_forbidden":
        return f"--set {name}={sets[name]}: {_suggest(name, known)}the task's settings are {', '.join(known) or 'none'}"
    given = f"{name}={sets[name]}" if name in sets else name or " ".join(f"{key}={sets[key]}" for key in sets)
    return f"--set {given}: {reason}"


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown, did you mean {close[0]}? " if close else "unknown; "
