"""Messages as CSV with the columns `text` and `category` (or `intent`, the same), in either order."""

import csv
import io
import re
from collections.abc import Iterator, Sequence

from trainer.tasks.nlu.checks import check_encoding, checked_text, split_intent, unknown
from trainer.tasks.nlu.messages import Message
from trainer.tasks.nlu.places import Fault, moved

COLUMNS = ("text", "category")
ALSO = {"intent": "category"}
OTHER_SEPARATORS = re.compile(r"[;\t|]")
_FIELD = re.compile(r'"(?:[^"]|"")*"[^,]*|[^,]*')

Record = tuple[int, str, list[str]]
"""The index of a record's first character, the record as written, its fields."""


def read_table(text: str, max_text_chars: int) -> Iterator[Message | Fault]:
    """The message of each record, or what is wrong with it; empty lines are passed over."""
    records = _records(text)
    columns = _columns(next(records, (0, "", [])))
    for start, written, fields in records:
        try:
            with moved(start.__add__):
                yield _message(written, fields, columns, max_text_chars)
        except Fault as fault:
            yield fault


def _records(text: str) -> Iterator[Record]:
    """Raises Fault where the quoting is wrong: what follows could be anything."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # how long a text may be is checked where all are
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, strict=True)
    start = done = 0
    try:
        for fields in reader:
            written = "".join(lines[done : reader.line_num])
            if fields:
                yield start, written, fields
            start, done = start + len(written), reader.line_num
    except csv.Error as error:
        raise Fault(f"is no CSV: {error} in the record that begins here", start) from error


def _columns(header: Record) -> tuple[int, int]:
    """Which columns are the text and the category."""
    _, written, fields = header
    names = [ALSO.get(name.strip(), name.strip()) for name in fields]
    if len(names) == 1 and (other := OTHER_SEPARATORS.search(written)):
        raise Fault(f"expected the columns {','.join(COLUMNS)} with a comma between, found {other[0]!r}", other.start())
    for i, name in enumerate(names):
        if name not in COLUMNS:
            raise Fault(unknown("column", name, COLUMNS), _field_index(written, i))
    if sorted(names) != sorted(COLUMNS):
        raise Fault(f"expected the columns {','.join(COLUMNS)} in the first line, found {','.join(names) or 'none'}")
    return names.index("text"), names.index("category")


def _message(written: str, fields: Sequence[str], columns: tuple[int, int], max_text_chars: int) -> Message:
    check_encoding(written)
    if len(fields) != len(COLUMNS):
        hint = "; put a text with a comma in quotes" if len(fields) > len(COLUMNS) else ""
        raise Fault(
            f"fields in the record: {len(fields)}, expected {len(COLUMNS)}{hint}", _field_index(written, len(COLUMNS))
        )
    text, category = columns
    with moved(lambda _: _field_index(written, text)):
        message = checked_text(fields[text], max_text_chars)
    with moved(lambda _: _field_index(written, category)):
        return Message(message, *split_intent(fields[category]))


def _field_index(written: str, number: int) -> int:
    """Where a field of a record begins; the end of the record where it has fewer."""
    index = 0
    for _ in range(number):
        found = _FIELD.match(written, index)
        end = found.end() if found else index
        if written[end : end + 1] != ",":
            return len(written.rstrip("\r\n"))
        index = end + 1
    return index
