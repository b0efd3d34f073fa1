"""Which members of a tar make an image with its label, and what is wrong where they do not."""

import json
import re
from collections.abc import Sequence

from trainer.errors import BadExample
from trainer.webdataset import Group

IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")
LABEL_SUFFIXES = ("cls", "json")
MEMBERS = frozenset(IMAGE_SUFFIXES + LABEL_SUFFIXES)
MAX_LABEL_BYTES = 2**20
CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def is_example(group: Group) -> bool:
    """Whether any member looks like a part of one, so that `cat.v2.png` is found bad rather than passed over."""
    return any(suffix in MEMBERS or suffix.rpartition(".")[2] in MEMBERS for suffix in group.members)


def member(group: Group, suffixes: Sequence[str], what: str) -> str:
    """The suffix of the group's image or label, the first of `suffixes` that it has."""
    found = next((suffix for suffix in suffixes if suffix in group.members), None)
    if found is None:
        others = ", ".join(member_name(group, suffix) for suffix in group.members)
        raise BadExample(f"{others}: no {what} beside it; expected {member_name(group, ' or .'.join(suffixes))}")
    if found in group.repeated:
        raise BadExample(f"{member_name(group, found)}: is in the tar more than once")
    return found


def member_name(group: Group, suffix: str) -> str:
    """A member's name for messages, quoted: a tar may call it anything."""
    return repr(f"{group.key}.{suffix}")


def label_of(group: Group, suffix: str) -> str:
    """The name of the label, one line of text."""
    content = bytes(group.members[suffix][: MAX_LABEL_BYTES + 1])
    try:
        label = _label_text(content, suffix).strip()
    except (ValueError, RecursionError) as error:
        raise BadExample(f"{member_name(group, suffix)}: is no label: {error}") from error
    if not label or CONTROL.search(label):
        raise BadExample(f"{member_name(group, suffix)}: a label must be one line of text")
    return label


def _label_text(content: bytes, suffix: str) -> str:
    if len(content) > MAX_LABEL_BYTES:
        raise ValueError(f"it is larger than {MAX_LABEL_BYTES} bytes")
    text = content.removeprefix(BYTE_ORDER_MARK).decode()
    if suffix == "cls":
        return text
    fields = json.loads(text)
    label = fields.get("label", fields.get("cls")) if isinstance(fields, dict) else None
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise ValueError('it has neither "label" nor "cls" with a name or an integer')
    return str(label)
