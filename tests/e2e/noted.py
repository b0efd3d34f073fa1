"""A task that notes what is trained, evaluated and counted, and jobs over a few small shards inside the process."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from cloud.folder import OutputFolder
from cloud.open import open_store
from cloud.store import Store
from tests.e2e.inside import Inside, Said
from tests.trainer.toy import NUM_FEATURES, Toy
from trainer.compressed import open_shard
from trainer.vocabulary import Vocabulary

ARGUMENTS = ("--task", "tests.e2e.noted:Noted", "--batch_size", "8", "--learning_rate", "0.01", "--threads", "1")


@dataclass
class Notes:
    """Ids of examples, as often as they came; `keys` counts those of a census, `steps` the forward passes of training.

    `stop_at`: the forward pass during which the process gets SIGTERM, `stop_evaluating_at` that of evaluation; 0: none.
    """

    trained: Counter[str] = field(default_factory=Counter)
    evaluated: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    stop_at: int = 0
    batches_evaluated: int = 0
    stop_evaluating_at: int = 0


class Noted(Toy):
    """Reads compressed shards too. `notes` are those of the submission under way."""

    notes: ClassVar[Notes] = Notes()

    def read(self, path: Path) -> Sequence[Any]:
        with open_shard(path) as lines:
            return [json.loads(line) for line in lines]

    def key(self, example: Any) -> str | None:
        self.notes.keys[example["id"]] += 1
        return super().key(example)

    def collate(self, examples: Sequence[Any], vocabulary: Vocabulary, seeds: np.ndarray | None) -> Any:
        counter = self.notes.evaluated if seeds is None else self.notes.trained
        counter.update(example["id"] for example in examples)
        return super().collate(examples, vocabulary, seeds)

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        self.notes.steps += 1
        if self.notes.steps == self.notes.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(net, batch)

    def predict(self, net: nn.Module, batch: Any) -> Sequence[Any]:
        self.notes.batches_evaluated += 1
        if self.notes.batches_evaluated == self.notes.stop_evaluating_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().predict(net, batch)

    def oov_rate(self, vocabulary: Vocabulary, examples: Iterable[Any]) -> float | None:
        """Of labels, which are all the words that there are."""
        labels = [example["y"] for example in examples]
        return sum(label not in vocabulary.ids("label") for label in labels) / len(labels)


class Keyless(Noted):
    """The same examples, which nothing tells apart."""

    def key(self, example: Any) -> str | None:
        super().key(example)
        return None


@dataclass(frozen=True)
class Round:
    """One submission, and what was trained in it."""

    said: Said
    notes: Notes

    @property
    def trained(self) -> Counter[str]:
        """How often each example was trained."""
        return self.notes.trained

    def labels(self, ids: Iterable[str]) -> Counter[str]:
        """How often examples of each label were trained, of those with these ids."""
        found: Counter[str] = Counter()
        for name in ids:
            found[name[0]] += self.notes.trained[name]
        return found


@dataclass
class Bench:
    """A job with a folder of data and an output folder, and places to look at what became of them."""

    inside: Inside

    def submit(
        self, *more: object, code: int = 0, stop_at: int = 0, stop_evaluating_at: int = 0, **urls: object
    ) -> Round:
        """One submission that must end with this code; `stop_at`: the step during which it gets SIGTERM."""
        Noted.notes = notes = Notes(stop_at=stop_at, stop_evaluating_at=stop_evaluating_at)
        said = self.inside.submit(*more, **urls)
        assert said.code == code, said.err
        return Round(said, notes)

    def write(self, name: str, ids: Iterable[str]) -> None:
        """A shard in the folder of data."""
        path = self.inside.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(ids))

    def store(self, url: object = None) -> Store:
        """The output folder."""
        return open_store(str(url or self.inside.run), writable=True)

    def ledger(self, number: int, url: object = None) -> list[dict[str, Any]]:
        """The lines of a round's ledger file."""
        folder = OutputFolder(self.store(url))
        return list(folder.read_ledger(folder.records()[0].ledgers[number - 1]))

    def metrics(self, attempt: int, url: object = None, kind: str = "epoch") -> list[dict[str, Any]]:
        """The lines of an attempt's metrics, of one kind."""
        text = self.store(url).read(f"metrics/{attempt:06}.jsonl").decode()
        return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]


def content(ids: Iterable[str]) -> bytes:
    """A shard's lines: the label is the first letter of the id, the point a function of the id."""
    return "".join(json.dumps(_example(name)) + "\n" for name in ids).encode()


def _example(name: str) -> Mapping[str, Any]:
    centre = np.random.default_rng(list(name[0].encode())).normal(size=NUM_FEATURES)
    noise = np.random.default_rng(list(name.encode())).normal(size=NUM_FEATURES)
    return {"x": (centre + 0.3 * noise).round(4).tolist(), "y": name[0], "id": name}


def ids(label: str, start: int, stop: int) -> list[str]:
    """Ids of examples with a label: a0, a1 ..."""
    return [f"{label}{number}" for number in range(start, stop)]


FIRST, SECOND, THIRD = ids("a", 0, 20) + ids("b", 0, 12), ids("c", 0, 8), ids("d", 0, 8) + ids("a", 20, 24)
"""Three shards of 32, 8 and 12 examples; labels appear in each."""
