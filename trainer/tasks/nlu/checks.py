"""What every form of shard asks of texts and names. Faults count from the start of what is checked."""

import difflib
import re
import sys
from collections.abc import Sequence

from trainer.tasks.nlu.places import Fault

MAX_NAME_CHARS = 500
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def checked_text(text: str, max_chars: int, what: str = "example") -> str:
    """The text, which must have something in it, not too much, and no half characters."""
    if not text.strip():
        raise Fault(f"the {what} is empty")
    if len(text) > max_chars:
        raise Fault(f"the {what} has {len(text):,} characters, more than max_text_chars={max_chars}")
    check_encoding(text)
    return text


def check_encoding(text: str) -> None:
    """Half of a surrogate pair is no character; a byte that was no UTF-8 has become one (PEP 383)."""
    if found := _SURROGATE.search(text):
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:
            raise Fault(f"byte 0x{code - 0xDC00:02X} is not UTF-8; save the file as UTF-8", found.start())
        raise Fault(f"U+{code:X} is half of a character", found.start())


def checked_name(name: str, what: str) -> str:
    """A name of an intent, entity, ..., without the spaces around it: one line of text."""
    name = name.strip()
    if not name:
        raise Fault(f"the {what} has no name")
    if len(name) > MAX_NAME_CHARS:
        raise Fault(f"the name of the {what} has {len(name):,} characters, more than {MAX_NAME_CHARS}")
    if found := _CONTROL.search(name):
        raise Fault(f"the name of the {what} holds U+{ord(found[0]):04X}; it must be one line of text")
    return sys.intern(name)


def split_intent(name: str) -> tuple[str, str | None]:
    """Intent and response key: ("faq", "faq/ask_x") of "faq/ask_x", ("greet", None) of "greet"."""
    name = checked_name(name, "intent")
    parts = name.split("/")
    if len(parts) > 2 or not all(part.strip() for part in parts):
        raise Fault(f"intent {name!r}: expected NAME or, for a retrieval intent, NAME/KEY")
    return (sys.intern(parts[0]), name) if len(parts) == 2 else (name, None)


def unknown(kind: str, name: str, known: Sequence[str], place: str = "") -> str:
    """The words for a name that is none of the known ones."""
    close = difflib.get_close_matches(name[:MAX_NAME_CHARS], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"expected {', '.join(known)}"
    return f"unknown {kind} {name[:40]!r}{place}; {hint}"
