"""Nodes of a YAML file as the kinds that are expected, with a Fault at their place where they are another."""

from collections.abc import Sequence

from trainer.tasks.nlu.checks import unknown
from trainer.tasks.nlu.marked import Items, Node, Pairs, Refused, Scalar
from trainer.tasks.nlu.places import Fault


def items_of(node: Node, what: str) -> list[Node]:
    """The items of a list; nothing is an empty one."""
    if isinstance(node, Scalar) and node.is_null:
        return []
    if not isinstance(node, Items):
        raise Fault(f"{what}: expected a list, found {kind(node)}", node.start)
    return node.items


def fields_of(node: Node, known: Sequence[str], what: str) -> dict[str, Node]:
    """The values of a mapping by name: all known, each there once."""
    if not isinstance(node, Pairs):
        raise Fault(f"expected {what} as a mapping, found {kind(node)}", node.start)
    fields: dict[str, Node] = {}
    for key, value in node.pairs:
        name = text_of(key, what).value
        if name not in known:
            raise Fault(unknown("name", name, known, f" in {what}"), key.start)
        if name in fields:
            raise Fault(f"{name!r} is there twice", key.start)
        fields[name] = value
    return fields


def text_of(node: Node, what: str) -> Scalar:
    """A text, whatever else YAML takes it for: `yes` and `12` are texts too."""
    if not isinstance(node, Scalar) or node.is_null:
        raise Fault(f"{what}: expected a text, found {kind(node)}", node.start)
    return node


def kind(node: Node) -> str:
    """What a node is, for messages."""
    if isinstance(node, Refused):
        return node.what
    if isinstance(node, Scalar):
        return "nothing" if node.is_null else repr(node.value[:40])
    return "a list" if isinstance(node, Items) else "a mapping"
