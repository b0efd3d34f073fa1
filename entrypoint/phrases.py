"""How counts, names and times are said."""

from collections.abc import Sequence


def shown(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def new_labels(labels: Sequence[str]) -> str:
    """To go on with after a count: ", 2 new labels 'a', 'b'"; "" for none."""
    if not labels:
        return ""
    text = ", ".join(repr(label) for label in labels[:5]) + (", ..." if len(labels) > 5 else "")
    return f", new label {text}" if len(labels) == 1 else f", {len(labels)} new labels {text}"


def count(num: int, noun: str) -> str:
    """A number with its noun: "1 shard", "2 shards"."""
    return f"{num} {noun}{'' if num == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
