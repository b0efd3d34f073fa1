"""Names that people rename or merge (`--set rename="old=new"`): what data calls the old name is known by the new one.

A vocabulary remembers every renaming, as a name "number TAB kind TAB old TAB new" of kind "renamed": shards that still
say the old name go on to mean the new one. A name that is given to nothing yet takes over the old one's place in the
network; one that exists already keeps its own, and the old one's place is counted towards it (a merge).
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from trainer.errors import SettingError
from trainer.tasks.nlu.messages import Message
from trainer.vocabulary import Vocabulary

KIND = "renamed"
KINDS = ("intent", "response", "entity", "role", "group")


class Rename(NamedTuple):
    """One renaming of a name of a kind."""

    kind: str
    old: str
    new: str


def parse(text: str) -> tuple[Rename, ...]:
    """Renamings from "old=new,entity:city=place": of an intent where no kind is said. ValueError where it is none."""
    renames = tuple(_one(part.strip()) for part in text.split(",") if part.strip())
    for place, rename in enumerate(renames):
        if any((one.kind, one.old) == (rename.kind, rename.new) for one in renames[:place]):
            raise ValueError(f"{rename.old}={rename.new}: goes back to a name that was given up before it")
    return renames


def _one(text: str) -> Rename:
    names, separator, new = text.partition("=")
    kind, colon, old = names.partition(":")
    if kind not in KINDS or not colon:
        kind, old = "intent", names
    old, new = old.strip(), new.strip()
    if not separator or not old or not new or old == new:
        raise ValueError(f'{text!r}: must be "old=new", or "entity:old=new" where it is no intent')
    return Rename(kind, old, new)


def applied(vocabulary: Vocabulary, renames: Collection[Rename], data: Mapping[str, Collection[str]]) -> Vocabulary:
    """The vocabulary with the renamings that it does not remember yet.

    `data` holds the names that the round's data says, by kind. SettingError for an old name that neither it nor the
    vocabulary knows: a slip of the pen would do nothing, and nobody would notice.
    """
    for rename in renames:
        if _holds(vocabulary, rename):
            continue
        _check(rename, vocabulary, {*vocabulary.names(rename.kind), *data.get(rename.kind, ())})
        number = len(vocabulary.names(KIND))  # which tells it from the same one done before and undone
        vocabulary = vocabulary.add(KIND, ["\t".join((str(number), *rename))])
        known = vocabulary.ids(rename.kind)
        if rename.old in known and rename.new not in known:
            vocabulary = vocabulary.renamed(rename.kind, rename.old, rename.new)
    return vocabulary


def not_held(vocabulary: Vocabulary, renames: Collection[Rename]) -> list[Rename]:
    """Those that the vocabulary does not remember yet; SettingError as in `applied`, as far as it knows the names."""
    pending = [rename for rename in renames if not _holds(vocabulary, rename)]
    applied(vocabulary, pending, {})
    return pending


def asked_for(vocabulary: Vocabulary, renames: Collection[Rename], kind: str, name: str) -> str:
    """What a name that data says will be called once `renames` are applied."""
    name = current(vocabulary, kind, name)
    for rename in renames:
        if (rename.kind, rename.old) == (kind, name):
            name = rename.new
    return name


def current(vocabulary: Vocabulary, kind: str, name: str) -> str:
    """What a name that data says is called today."""
    for rename in _remembered(vocabulary):
        if (rename.kind, rename.old) == (kind, name):
            name = rename.new
    return name


def today(vocabulary: Vocabulary, message: Message) -> Message:
    """A message with its names as they are called today."""
    if not vocabulary.names(KIND):
        return message

    def known(kind: str, name: str | None) -> str | None:
        return name and current(vocabulary, kind, name)

    entities = (
        entity._replace(
            entity=current(vocabulary, "entity", entity.entity),
            role=known("role", entity.role),
            group=known("group", entity.group),
        )
        for entity in message.entities
    )
    intent, response = known("intent", message.intent), known("response", message.response_key)
    return message._replace(intent=intent, response_key=response, entities=tuple(entities))


def ids(vocabulary: Vocabulary, kind: str) -> dict[str, int]:
    """The id of every name that data may say, old names included."""
    known = vocabulary.ids(kind)
    said = {*known, *(rename.old for rename in _remembered(vocabulary) if rename.kind == kind)}
    found = {name: known.get(current(vocabulary, kind, name)) for name in sorted(said)}
    return {name: number for name, number in found.items() if number is not None}


def merged(vocabulary: Vocabulary, kind: str) -> dict[int, int]:
    """For each name that was merged into another one, its id and the id that what is said of it counts towards."""
    known = vocabulary.ids(kind)
    pairs = ((number, known.get(current(vocabulary, kind, name), number)) for name, number in known.items())
    return {number: into for number, into in pairs if number != into}


def _remembered(vocabulary: Vocabulary) -> Iterator[Rename]:
    return (Rename(*name.split("\t")[1:]) for name in vocabulary.names(KIND))


def _holds(vocabulary: Vocabulary, rename: Rename) -> bool:
    """Whether the renaming was done and not undone: it stays in the job's settings, and counts once."""
    undone = current(vocabulary, rename.kind, rename.old) == rename.old
    return rename in _remembered(vocabulary) and not undone


def _check(rename: Rename, vocabulary: Vocabulary, said: Collection[str]) -> None:
    """SettingError unless the old name is one of today, and the new one leads nowhere else."""
    kind, old, new = rename
    known = [name for name in said if current(vocabulary, kind, name) == name]
    if old not in known:
        today, close = current(vocabulary, kind, old), difflib.get_close_matches(old, known, n=1)
        hint = f"; it is called {today!r} now" if today != old else f", did you mean {close[0]!r}?" if close else ""
        raise SettingError(f"--set rename={old}={new}: no {kind} is called {old!r}{hint}")
    if (today := current(vocabulary, kind, new)) not in (new, old):
        raise SettingError(f"--set rename={old}={new}: {new!r} is called {today!r} now; name that")
