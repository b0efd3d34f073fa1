"""Names that get ids: they are only ever appended, so an id means the same in every round."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trainer.errors import CheckpointError

Blocks = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Vocabulary:
    """For each kind of name ("label", "word", ...) one block of names per round that brought new ones.

    Blocks, not only names, because a network grows by blocks: the parameters of a later block are new
    parameters with a step count of their own in the optimizer.
    """

    blocks: Mapping[str, Blocks] = field(default_factory=dict)

    def add(self, kind: str, names: Iterable[str]) -> "Vocabulary":
        """A vocabulary with the names not known yet appended as one block, in sorted order."""
        known = self.ids(kind)
        new = tuple(sorted(set(names) - known.keys()))
        if not new:
            return self
        return Vocabulary({**self.blocks, kind: (*self.blocks.get(kind, ()), new)})

    def renamed(self, kind: str, old: str, new: str) -> "Vocabulary":
        """The vocabulary in which a known name is called by another one, not known yet; its id stays."""
        assert old in self.ids(kind) and new not in self.ids(kind), (kind, old, new)
        blocks = tuple(tuple(new if name == old else name for name in block) for block in self.blocks[kind])
        return Vocabulary({**self.blocks, kind: blocks})

    def names(self, kind: str) -> tuple[str, ...]:
        """All names of a kind, by id."""
        return tuple(name for block in self.blocks.get(kind, ()) for name in block)

    def ids(self, kind: str) -> Mapping[str, int]:
        """The id of each name of a kind, 0 for the first."""
        return self._ids.get(kind, {})

    def block_sizes(self, kind: str) -> tuple[int, ...]:
        """How many names each block has: what a network that grows by blocks is built from."""
        return tuple(len(block) for block in self.blocks.get(kind, ()))

    @cached_property
    def _ids(self) -> Mapping[str, Mapping[str, int]]:
        return {kind: {name: i for i, name in enumerate(self.names(kind))} for kind in self.blocks}

    def to_dict(self) -> dict[str, list[list[str]]]:
        """Plain lists, for a checkpoint or JSON."""
        return {kind: [list(block) for block in blocks] for kind, blocks in self.blocks.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Sequence[Sequence[Any]]]) -> "Vocabulary":
        """The inverse of `to_dict`; CheckpointError when a name occurs twice or is no string."""
        vocabulary = cls({kind: tuple(tuple(block) for block in blocks) for kind, blocks in plain.items()})
        for kind in vocabulary.blocks:
            names = vocabulary.names(kind)
            if len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
                raise CheckpointError(f"vocabulary: the names of kind {kind!r} are not distinct strings")
        return vocabulary
