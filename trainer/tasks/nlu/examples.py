"""The examples of an item of Rasa's YAML: lines of a `|` block that begin with "-", or a list of `{text, metadata}`."""

from collections.abc import Iterator
from typing import NamedTuple

from trainer.tasks.nlu.marked import Items, Node, Scalar, index_in
from trainer.tasks.nlu.nodes import fields_of, kind, text_of
from trainer.tasks.nlu.places import Fault


class Example(NamedTuple):
    """A text as written, and where it begins in its scalar."""

    raw: str
    scalar: Scalar
    start: int

    def index_in(self, source: str, index: int) -> int:
        """The place in the file of a character of the example."""
        return index_in(source, self.scalar, self.start + index)


def examples_of(node: Node, source: str) -> Iterator[Example | Fault]:
    """Every example, or what is wrong with it."""
    if isinstance(node, Items):
        for item in node.items:
            try:
                yield _listed(item)
            except Fault as fault:
                yield fault
        return
    block = text_of(node, "examples")
    if block.style == ">":
        raise Fault("'>' makes one line of all examples; write 'examples: |'", block.start)
    start = 0
    for line in block.value.split("\n"):
        if (content := line.lstrip()) and not content.startswith("#"):
            yield _line(content, block, start + len(line) - len(content), source)
        start += len(line) + 1


def _line(content: str, block: Scalar, start: int, source: str) -> Example | Fault:
    if not content.startswith("-"):
        return Fault("a line of examples must begin with '-'", index_in(source, block, start))
    raw = content[1:].lstrip()
    return Example(raw.rstrip(), block, start + len(content) - len(raw))


def _listed(item: Node) -> Example:
    if isinstance(item, Scalar):
        raise Fault(f"expected {{text: ...}}, found {kind(item)}; write 'examples: |' above plain lines", item.start)
    fields = fields_of(item, ("text", "metadata"), "an example")
    if "text" not in fields:
        raise Fault("an example needs its 'text'", item.start)
    scalar = text_of(fields["text"], "text")
    raw = scalar.value.lstrip()
    return Example(raw.rstrip(), scalar, len(scalar.value) - len(raw))
