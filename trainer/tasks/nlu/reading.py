"""Shards of task `nlu`: Rasa's NLU YAML, JSON lines, CSV, plain or compressed, read whole into memory."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.compressed import MAX_BYTES, open_shard
from trainer.compressed import SUFFIXES as COMPRESSED
from trainer.errors import BadExample, DataError
from trainer.tasks.nlu.jsonl import read_jsonl
from trainer.tasks.nlu.messages import Lookup, Message, Regex, Resource, Response, Synonym
from trainer.tasks.nlu.places import Fault, Lines
from trainer.tasks.nlu.rasa import Found, read_rasa
from trainer.tasks.nlu.table import read_table

READERS: Mapping[str, Callable[[str, int], Iterator[Found]]] = {
    ".yml": read_rasa,
    ".yaml": read_rasa,
    ".jsonl": read_jsonl,
    ".csv": read_table,
}
SUFFIXES = tuple(READERS)
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
TUPLE_BYTES = 160
"""About what a message or an entity takes beside its text."""


class Messages(Sequence[Message]):
    """The messages of one shard. Indexing one that cannot be used raises BadExample, each time."""

    def __init__(self, entries: Sequence[Message | str], resources: Iterable[Resource]) -> None:
        self._entries = entries
        self.resources = tuple(resources)
        """What the shard holds beside messages; of two synonyms for one surface the later."""
        self.nbytes = sum(map(_num_bytes, (*entries, *self.resources)))
        """About how many bytes of memory all this takes."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def texts(self) -> Iterator[str]:
        """Those of the messages that can be used."""
        return (entry.text for entry in self._entries if isinstance(entry, Message))

    def __getitem__(self, index: Any) -> Any:
        entry = self._entries[index]
        if isinstance(entry, str):
            raise BadExample(entry)
        return entry


def read(path: Path, max_text_chars: int, max_bytes: int = MAX_BYTES) -> Messages:
    """The messages of a local file, by its suffix, with every fault's line and column, counted from 1.

    Raises DataError where the file as a whole cannot be read, NotAShard where it is YAML of another kind.
    """
    text = _text(path, max_bytes)
    lines = Lines(text)
    try:
        found = list(_reader(path)(text, max_text_chars))
    except Fault as fault:
        raise DataError(lines.where(fault)) from fault
    entries = [lines.where(one) if isinstance(one, Fault) else one for one in found if isinstance(one, Message | Fault)]
    return Messages(entries, _resources(found))


def _reader(path: Path) -> Callable[[str, int], Iterator[Found]]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    reader = READERS.get(suffixes[-1] if suffixes else "")
    if reader is None:
        raise DataError(f"{path.name}: expected a name that ends in {', '.join(SUFFIXES)}")
    return reader


def _text(path: Path, max_bytes: int) -> str:
    """The content. A byte that is no UTF-8 becomes half a surrogate pair, which readers refuse where they find it."""
    with open_shard(path, max_bytes) as stream:
        content = stream.read()
    if content[:2] in UTF_16_MARKS or b"\0" in content[:4]:
        raise DataError("line 1, column 1: the file is UTF-16 or UTF-32; save it as UTF-8")
    return content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def _resources(found: Sequence[Found]) -> Iterator[Resource]:
    """Those of the file, and a synonym for every entity whose value is not what stands there."""
    yield from dict.fromkeys(one for one in found if isinstance(one, Regex | Lookup | Response))
    synonyms = {}
    for one in found:
        for surface, value in _synonyms(one):
            surface = surface.replace("\t", " ")  # a vocabulary keeps surface and value in one name, a tab between them
            synonyms[surface.lower()] = Synonym(surface, value)
    yield from synonyms.values()


def _synonyms(one: Found) -> list[Synonym]:
    if isinstance(one, Message):
        return [Synonym(one.text[entity.start : entity.end], entity.value) for entity in one.entities if entity.value]
    return [one] if isinstance(one, Synonym) else []


def _num_bytes(entry: Message | Resource | str) -> int:
    if isinstance(entry, str):
        return sys.getsizeof(entry)
    num_tuples = 1 + (len(entry.entities) if isinstance(entry, Message) else 0)
    return num_tuples * TUPLE_BYTES + sum(sys.getsizeof(field) for field in entry if isinstance(field, str))
