"""Messages written in every form that the readers know, and random messages to write."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from trainer.tasks.nlu.messages import Entity, Message

NAMES = st.sampled_from(["greet", "city", "größe", "a:b c", "x.y-z", "7", "yes", "日本"])
LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Cn"])
WORDS = st.text(LETTERS | st.sampled_from("[](){}\\\"'#-:|> "), max_size=12)


@st.composite
def messages(draw: st.DrawFn, annotated: bool = True) -> Message:
    """A message of one line whose entities are apart, as an annotated example can say it."""
    text, entities = "", []
    for _ in range(draw(st.integers(0, 3)) if annotated else 0):
        text += draw(WORDS).rstrip("\\").lstrip()
        surface = draw(WORDS.map(lambda word: word.strip("\\ \u3000") or "x").filter(str.strip))
        value = draw(st.none() | WORDS.filter(surface.__ne__))
        role, group = draw(st.none() | NAMES), draw(st.none() | NAMES)
        entities.append(Entity(len(text), len(text) + len(surface), draw(NAMES), role, group, value))
        text += surface
    text = text + (draw(WORDS).rstrip() or "x")
    if not text.strip() or text.lstrip() != text:
        text, entities = "y" + text, [one._replace(start=one.start + 1, end=one.end + 1) for one in entities]
    intent = draw(st.sampled_from(["greet", "faq", "no"]))
    return Message(text, intent, f"faq/{draw(NAMES)}" if intent == "faq" else None, tuple(entities))


def as_block(items: Sequence[Message]) -> str:
    """Rasa's YAML with one item per message, its example in a block."""
    blocks = [f"- intent: {_quoted(_name(one))}\n  examples: |\n    - {as_annotated(one)}\n" for one in items]
    return "".join(["version: '3.1'\nnlu:\n", *blocks])


def as_list(items: Sequence[Message]) -> str:
    """Rasa's YAML with examples as a list of mappings."""
    items_ = [
        f"- intent: {_quoted(_name(one))}\n  metadata: {{a: 1}}\n  examples:\n"
        f"  - text: {_quoted(as_annotated(one))}\n    metadata: x\n"
        for one in items
    ]
    return "".join(["nlu:\n", *items_])


def as_jsonl(items: Iterable[Message]) -> str:
    """JSON lines."""
    return "".join(json.dumps(_object(one)) + "\n" for one in items)


def as_table(items: Iterable[Message]) -> str:
    """CSV, which has no entities."""
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["text", "category"])
    writer.writerows([one.text, _name(one)] for one in items)
    return content.getvalue()


def as_annotated(message: Message) -> str:
    """The text of an example with its entities written into it."""
    written, done = "", 0
    for one in message.entities:
        surface = message.text[one.start : one.end]
        written += f"{_escaped(message.text[done : one.start])}[{_escaped(surface)}]{_annotation(one)}"
        done = one.end
    return written + _escaped(message.text[done:])


def _annotation(one: Entity) -> str:
    can_be_short = not (one.value or "").endswith("\\")  # which would escape the bracket behind it
    if one.role is None and one.group is None and ":" not in one.entity and can_be_short:
        return f"({one.entity})" if one.value is None else f"({one.entity}:{_escaped(one.value)})"
    fields = {
        name: value for name, value in one._asdict().items() if name not in ("start", "end") and value is not None
    }
    return json.dumps(fields, ensure_ascii=False)


def _escaped(text: str) -> str:
    return re.sub(r"([\[\](){}])", r"\\\1", text)


def _name(message: Message) -> str:
    return message.response_key or message.intent or ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _object(message: Message) -> dict[str, object]:
    entities = [one._asdict() for one in message.entities]
    return {"text": message.text, "intent": message.intent, "response_key": message.response_key, "entities": entities}
