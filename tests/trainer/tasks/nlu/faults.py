"""What the readers say of faults in a text."""

from collections.abc import Callable, Iterator
from typing import Any

from trainer.errors import DataError
from trainer.tasks.nlu.places import Fault, Lines

Reader = Callable[[str, int], Iterator[Any]]


def said(reader: Reader, text: str, max_text_chars: int = 100) -> list[str]:
    """Every fault found, with its place; a single one where the text as a whole cannot be read."""
    lines = Lines(text)
    try:
        return [lines.where(one) for one in reader(text, max_text_chars) if isinstance(one, Fault)]
    except Fault as fault:
        return ["all: " + lines.where(fault)]
    except DataError as error:
        return [f"{type(error).__name__}: {error}"]
