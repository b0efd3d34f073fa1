"""The figures of task `nlu` as tables: ours beside those of Rasa 3.6.21, of linear models, and what is asked of us."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from tests.benchmarks.table import machine

HEADINGS = ("", "Rasa", "linear", "asked", "ours", "reached")


class Asked(NamedTuple):
    """A bound: `sign` is ">=" or "<="."""

    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:.4g}"

    def reached(self, value: float) -> bool:
        """Whether a figure keeps within it."""
        return value >= self.bound if self.sign == ">=" else value <= self.bound


class Row(NamedTuple):
    """One figure: its title, the keys under which it is found, and what it is measured by where that is known."""

    title: str
    keys: tuple[str, ...]
    rasa: float | None = None
    linear: float | None = None
    asked: Asked | None = None


def at_least(bound: float) -> Asked:
    """What a score must reach."""
    return Asked(">=", bound)


def at_most(bound: float) -> Asked:
    """What a cost must keep below."""
    return Asked("<=", bound)


def faster(seconds: float, times: float) -> Asked:
    """What is left of Rasa's seconds."""
    return at_most(seconds / times)


ROWS: Mapping[str, Sequence[Row]] = {
    "financial": (
        Row("intent F1, set1", ("set1", "intent_f1_weighted"), 0.789, 0.824, at_least(0.83)),
        Row("intent F1, finetuned by set2", ("finetuned", "intent_f1_weighted"), 0.831, None, at_least(0.865)),
        Row("intent F1, both from scratch", ("both", "intent_f1_weighted"), 0.832, 0.846, at_least(0.865)),
        Row("entity token F1, set1", ("set1", "entity_f1_token"), 0.913, 0.937, at_least(0.935)),
        Row("entity token F1, finetuned by set2", ("finetuned", "entity_f1_token"), 0.930, None, at_least(0.945)),
        Row("entity token F1, both from scratch", ("both", "entity_f1_token"), 0.914, 0.945, at_least(0.945)),
        Row("intent F1, finetuned - scratch", ("difference", "mean"), None, None, at_least(-0.02)),
        Row("  its 95 % interval: from", ("difference", "low")),
        Row("  to", ("difference", "high")),
        Row("visits of a finetune, share", ("share_of_visits",), None, None, at_most(0.2)),
        Row("  of what entities take from scratch", ("share_by_entities",)),
        Row("seconds of the process, set1", ("set1", "seconds"), 66, None, faster(66, 8)),
        Row("seconds of the process, finetune", ("finetuned", "seconds"), 46, None, faster(46, 8)),
        Row("seconds of the process, both", ("both", "seconds"), 69, None, faster(69, 8)),
        Row("seconds of training, set1", ("set1", "train_seconds"), 60, None, faster(60, 50)),
        Row("seconds of training, finetune", ("finetuned", "train_seconds"), 25, None, faster(25, 50)),
        Row("seconds of training, both", ("both", "train_seconds"), 63, None, faster(63, 50)),
        Row("memory, MB", ("both", "megabytes"), 1600, None, at_most(900)),
    ),
    "banking": (
        Row("accuracy, all at once", ("joint", "accuracy"), None, 0.916, at_least(0.92)),
        Row("accuracy, in five rounds", ("rounds", "accuracy")),
        Row("  rounds - all at once", ("rounds", "minus_joint"), None, None, at_least(-0.01)),
        Row("weighted F1, rounds - all at once", ("difference", "mean"), None, None, at_least(-0.01)),
        Row("  its 95 % interval: from", ("difference", "low")),
        Row("  to", ("difference", "high")),
        *(
            Row(f"forgetting after round {number}", ("forgetting", str(number)), None, None, at_most(0.01))
            for number in range(2, 6)
        ),
        Row("visits of the last round, share", ("rounds", "share_of_visits"), None, None, at_most(0.2)),
        Row("seconds of the process, all at once", ("joint", "seconds"), None, None, at_most(60)),
        Row("seconds of training, all at once", ("joint", "train_seconds")),
        Row("seconds of the process, last round", ("rounds", "seconds")),
        Row("memory, MB", ("joint", "megabytes"), None, None, at_most(900)),
    ),
    "sara": (
        Row("intent F1, set1", ("set1", "intent_f1_weighted"), 0.776),
        Row("intent F1, finetuned by set2", ("finetuned", "intent_f1_weighted"), 0.809),
        Row("intent F1, both from scratch", ("both", "intent_f1_weighted"), 0.800, 0.828),
        Row("entity token F1, set1", ("set1", "entity_f1_token"), 0.781),
        Row("entity token F1, finetuned by set2", ("finetuned", "entity_f1_token"), 0.818),
        Row("entity token F1, both from scratch", ("both", "entity_f1_token"), 0.813, 0.826),
        Row("response F1 given the intent, set1", ("set1", "response_f1_given_intent"), 0.939),
        Row("response F1 given the intent, finetuned by set2", ("finetuned", "response_f1_given_intent"), 0.945),
        Row("response F1 given the intent, both from scratch", ("both", "response_f1_given_intent"), 0.957, 0.950),
        Row("seconds of the process, set1", ("set1", "seconds"), 403, None, faster(403, 15)),
        Row("seconds of the process, finetune", ("finetuned", "seconds"), 170, None, faster(170, 15)),
        Row("seconds of the process, both", ("both", "seconds"), 449, None, faster(449, 15)),
        Row("memory, MB", ("both", "megabytes"), 1900, None, at_most(900)),
    ),
    "speed": (
        Row("messages a second, 64 at a time", ("messages_a_second",), None, None, at_least(2000)),
        Row("one message, median, ms", ("p50_ms",), None, None, at_most(2)),
        Row("one message, 99th percentile, ms", ("p99_ms",)),
    ),
}
TITLES = {
    "financial": "Financial-demo, means over three splits",
    "banking": "Banking77",
    "sara": "Rasa's assistant Sara, or as many messages",
    "speed": "prediction on one core",
}


def tables(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """A table for each part that was measured."""
    for part in ROWS.keys() & found.keys():
        table = Table(title=f"{TITLES[part]} ({machine()})")
        for heading in HEADINGS:
            table.add_column(heading, justify="right" if heading else "left")
        for row in ROWS[part]:
            if (value := _value(found[part], row.keys)) is not None:
                table.add_row(*_cells(row, value))
        yield table


def _cells(row: Row, value: float) -> Iterator[str]:
    yield row.title
    yield from (_shown(number) for number in (row.rasa, row.linear))
    yield "" if row.asked is None else str(row.asked)
    yield _shown(value)
    yield "" if row.asked is None else "yes" if row.asked.reached(value) else "no"


def _value(found: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    """None where the data had nothing to measure it by."""
    for key in keys[:-1]:
        found = found[key]
    return found.get(keys[-1])


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}" if abs(number) >= 1 else f"{number:.3f}"
