"""YAML as a tree of nodes that know where they are. Nothing is resolved: a text stays what is written.

Built from the parser's events, so that neither depth nor aliases can cost more than the file's length.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from trainer.tasks.nlu.checks import check_encoding
from trainer.tasks.nlu.places import Fault

MAX_DEPTH = 100
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML without libyaml has only the slow one
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# YAML 1.1 breaks lines at these, 1.2 and editors do not: noncharacters stand for them while libyaml parses.
_BREAKS = {0x85: 0xFDD0, 0x2028: 0xFDD1, 0x2029: 0xFDD2}
_UNBROKEN = {stand_in: original for original, stand_in in _BREAKS.items()}
_NULLS = ("", "~", "null", "Null", "NULL")


class Scalar(NamedTuple):
    """A text; `style` is "" (plain), ', ", | or >."""

    start: int
    value: str
    style: str

    @property
    def is_null(self) -> bool:
        """Whether nothing is written here."""
        return not self.style and self.value in _NULLS


class Items(NamedTuple):
    """A list."""

    start: int
    items: list["Node"]


class Pairs(NamedTuple):
    """A mapping, in the order of the file."""

    start: int
    pairs: list[tuple["Node", "Node"]]


class Refused(NamedTuple):
    """An alias or a tagged node: no data file needs one."""

    start: int
    what: str


Node = Scalar | Items | Pairs | Refused


def compose(text: str) -> Node | None:
    """The one document of a YAML text, None where there is none; Fault where it is no YAML."""
    check_encoding(text)
    if bad := _FORBIDDEN.search(text):
        raise Fault(f"the character U+{ord(bad[0]):04X} may not be in a YAML file", bad.start())
    roots: list[Node] = []
    begun: list[tuple[Any, list[Node]]] = []
    for event in _events(text):
        if isinstance(event, yaml.CollectionStartEvent):
            begun.append((event, []))
            if len(begun) > MAX_DEPTH:
                raise Fault("is nested too deeply", _start(event))
            continue
        node = _collection(*begun.pop()) if isinstance(event, yaml.CollectionEndEvent) else _leaf(event)
        if node:
            (begun[-1][1] if begun else roots).append(node)
    if len(roots) > 1:
        raise Fault("a second document begins; keep one in a file", roots[1].start)
    return roots[0] if roots else None


def _events(text: str) -> Iterator[Any]:
    standing_in = any(chr(code) in text for code in _BREAKS)
    try:
        yield from yaml.parse(text.translate(_BREAKS) if standing_in else text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        marks: list[Any] = [mark for mark in (error.problem_mark, error.context_mark) if mark]
        index = min(marks[0].index, len(text)) if marks else 0
        tab = "a tab; " if text[index : index + 1] == "\t" else ""
        raise Fault(f"is no valid YAML: {tab}{error.problem or error.context}", index) from error
    except yaml.YAMLError as error:
        raise Fault(f"is no valid YAML: {error}") from error


def _start(event: Any) -> int:
    return int(event.start_mark.index)


def _collection(begin: Any, children: list[Node]) -> Node:
    start = _start(begin)
    if begin.tag not in (None, "!"):
        return Refused(start, f"a tag ({begin.tag})")
    if isinstance(begin, yaml.SequenceStartEvent):
        return Items(start, children)
    return Pairs(start, list(zip(children[::2], children[1::2], strict=True)))


def _leaf(event: Any) -> Node | None:
    """A node without children; None for the begin or end of a document."""
    if isinstance(event, yaml.AliasEvent):
        return Refused(_start(event), f"an alias (*{event.anchor})")
    if not isinstance(event, yaml.ScalarEvent):
        return None
    if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
        return Refused(_start(event), f"a tag ({event.tag})")
    value = event.value if event.value.isascii() else event.value.translate(_UNBROKEN)
    return Scalar(_start(event), value, event.style or "")


def index_in(text: str, scalar: Scalar, offset: int) -> int:
    """Where in the file the character `offset` of a text is; where its form does not tell, where the text begins."""
    if scalar.style == "|":
        return _index_in_block(text, scalar, offset)
    begin = scalar.start + len(scalar.style)
    is_verbatim = text.startswith(scalar.value, begin)
    return begin + offset if is_verbatim else scalar.start


def _index_in_block(text: str, scalar: Scalar, offset: int) -> int:
    """The lines of a block follow its `|`, each as in the value but for what indents it."""
    before = scalar.value[:offset].split("\n")
    line = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
    index = scalar.start
    for _ in before:
        found = line.match(text, index)
        index = found.end() if found else len(text)
    written = line.match(text, index)
    whole = scalar.value.split("\n")[len(before) - 1]
    indent = len(written[0].rstrip("\r\n")) - len(whole) if written else 0
    return index + max(indent, 0) + len(before[-1])


def index_of(text: str, path: Sequence[str | int], key: str | None = None) -> int:
    """Where the value at a path of names and numbers is in a JSON text, which is YAML too; 0 where it is not found.

    With `key`, where that name is, in the mapping at the path; of a name that is there twice, the second.
    """
    try:  # a pair of surrogates is no escape of YAML's; any other of the same length serves
        node = compose(re.sub(r"\\u[dD][89a-fA-F]", r"\\u00", text))
    except Fault:
        return 0
    for step in path:
        found = [child for name, child in _children(node) if name == step]
        node = found[-1] if found else node
    names = [name for name, _ in node.pairs if isinstance(name, Scalar)] if isinstance(node, Pairs) else []
    return next((name.start for name in reversed(names) if name.value == key), node.start if node else 0)


def _children(node: Node | None) -> list[tuple[str | int, Node]]:
    if isinstance(node, Items):
        return list(enumerate(node.items))
    if isinstance(node, Pairs):
        return [(key.value, value) for key, value in node.pairs if isinstance(key, Scalar)]
    return []
