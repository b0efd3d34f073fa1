"""Messages, synonyms, regexes, lookup tables and responses as Rasa's NLU YAML has them, 2.x and 3.x."""

import difflib
import re
from collections.abc import Callable, Iterator
from functools import partial

from trainer.errors import NotAShard
from trainer.tasks.nlu.annotated import parse_annotated
from trainer.tasks.nlu.checks import checked_name, checked_text, split_intent
from trainer.tasks.nlu.examples import Example, examples_of
from trainer.tasks.nlu.marked import Node, Pairs, Scalar, compose
from trainer.tasks.nlu.messages import Lookup, Message, Regex, Resource, Response, Synonym
from trainer.tasks.nlu.nodes import fields_of, items_of, kind, text_of
from trainer.tasks.nlu.patterns import checked_pattern
from trainer.tasks.nlu.places import Fault, moved

SECTIONS = ("nlu", "responses")
OTHER_SECTIONS = (
    "version", "stories", "rules", "intents", "entities", "slots", "forms", "actions", "session_config", "e2e_actions",
    "config", "recipe", "language", "pipeline", "policies", "assistant_id", "flows",
)  # fmt: skip
KINDS = ("intent", "synonym", "regex", "lookup")
PREFIX = "utter_"

Found = Message | Resource | Fault
Make = Callable[[str], Message | Resource]
"""What makes a message or resource of the text of an example."""


def read_rasa(text: str, max_text_chars: int) -> Iterator[Found]:
    """All that the file holds, in its order; a part that cannot be used is a Fault and does not keep the others back.

    Raises NotAShard for a file with neither `nlu:` nor responses to retrieval intents, Fault for one that is no YAML.
    """
    root = compose(text)
    _check_is_shard(root)
    fields = fields_of(root, (*SECTIONS, *OTHER_SECTIONS), "a file of training data") if root else {}
    _check_version(fields.get("version"))
    parts = [_item(item, text, max_text_chars) for item in items_of(fields["nlu"], "nlu")] if "nlu" in fields else []
    parts += [_responses(key, variants) for key, variants in _retrieval(fields.get("responses"))]
    for part in parts:
        try:
            yield from part
        except Fault as fault:
            yield fault


def _check_is_shard(root: Node | None) -> None:
    """A section that is all but called `nlu` is meant to be it, and no sign of another kind of file."""
    sections = {key.value: (key, value) for key, value in _pairs(root)}
    if "nlu" in sections or ("responses" in sections and _retrieval(sections["responses"][1])):
        return
    for name, (key, _) in sections.items():
        close = difflib.get_close_matches(name[:40].lower(), SECTIONS, n=1, cutoff=0.65)
        if close and name not in (*SECTIONS, *OTHER_SECTIONS):
            raise Fault(f"unknown section {name[:40]!r}; did you mean {close[0]!r}?", key.start)
    raise NotAShard("has neither nlu: nor responses: to retrieval intents")


def _pairs(node: Node | None) -> list[tuple[Scalar, Node]]:
    pairs = node.pairs if isinstance(node, Pairs) else []
    return [(key, value) for key, value in pairs if isinstance(key, Scalar)]


def _retrieval(node: Node | None) -> list[tuple[Scalar, Node]]:
    """The responses that answer retrieval intents; `utter_greet`, `utter_/help` and the like are the dialogue's."""
    return [(key, value) for key, value in _pairs(node) if "/" in key.value and not key.value.startswith(f"{PREFIX}/")]


def _check_version(node: Node | None) -> None:
    if node and not (isinstance(node, Scalar) and re.fullmatch(r"[23](\.\d+)*", node.value)):
        raise Fault(f"version: expected 2.x or 3.x, found {kind(node)}", node.start)


def _item(node: Node, source: str, max_text_chars: int) -> Iterator[Found]:
    fields = fields_of(node, (*KINDS, "examples", "metadata"), "an item of nlu")
    kinds = [name for name in KINDS if name in fields]
    if len(kinds) != 1:
        raise Fault(f"expected one of {', '.join(KINDS)}, found {' and '.join(kinds) or 'none'}", node.start)
    title = text_of(fields[kinds[0]], kinds[0])
    with moved(lambda _: title.start):
        make = _maker(kinds[0], title.value, max_text_chars)
    examples = list(examples_of(fields["examples"], source)) if "examples" in fields else []
    if not examples:
        raise Fault(f"{kinds[0]} {title.value!r} has no examples", title.start)
    for example in examples:
        yield example if isinstance(example, Fault) else _made(make, example, source)


def _made(make: Make, example: Example, source: str) -> Found:
    try:
        return make(example.raw)
    except Fault as fault:
        return Fault(str(fault), example.index_in(source, fault.index))


def _maker(name: str, title: str, max_text_chars: int) -> Make:
    if name == "intent":
        return partial(_message, split_intent(title), max_text_chars)
    title = checked_name(title, name)
    if name == "synonym":
        return lambda raw: Synonym(checked_text(raw, max_text_chars), title)
    if name == "lookup":
        return lambda raw: Lookup(title, checked_text(raw, max_text_chars))
    return lambda raw: Regex(title, checked_pattern(checked_text(raw, max_text_chars, "pattern")))


def _message(intent: tuple[str, str | None], max_text_chars: int, raw: str) -> Message:
    plain, entities = parse_annotated(raw)
    return Message(checked_text(plain, max_text_chars), *intent, entities)


def _responses(key: Scalar, variants: Node) -> Iterator[Found]:
    """The texts among the variants; those that are only an image or custom have none."""
    if not key.value.startswith(PREFIX):
        raise Fault(f"a response is called {PREFIX}NAME, found {key.value[:40]!r}", key.start)
    with moved(lambda _: key.start):
        _, response_key = split_intent(key.value.removeprefix(PREFIX))
    for variant in items_of(variants, key.value):
        if not isinstance(variant, Pairs):
            yield Fault(f"expected a response as a mapping, {{text: ...}}, found {kind(variant)}", variant.start)
        for name, value in _pairs(variant):
            if name.value == "text" and response_key:
                yield _response(response_key, value)


def _response(response_key: str, node: Node) -> Found:
    try:
        return Response(response_key, text_of(node, "text").value.strip())
    except Fault as fault:
        return fault
