"""Scores as tables for people: the single numbers first, then those by label, the worst labels first."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

WIDTH = 100
MAX_ROWS = 40


def score_tables(scores: Mapping[str, Any]) -> Iterator[str]:
    """One text per table. A score that is a mapping of names to mappings is a table of its own."""
    single = {name: value for name, value in scores.items() if isinstance(value, (int, float))}
    table = Table("score", Column("value", justify="right"))
    for name, value in single.items():
        table.add_row(Text(name), _number(value))
    yield _text(table)
    for name, rows in scores.items():
        if isinstance(rows, Mapping) and rows and all(isinstance(row, Mapping) for row in rows.values()):
            yield _text(_by_name(name, rows))


def _by_name(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """The rows with the lowest F1 first, as far as there is room."""
    columns = list(next(iter(rows.values())))
    table = Table(title, *(Column(name, justify="right") for name in columns))
    order = sorted(rows, key=lambda name: (rows[name].get("f1") or 0.0, name))
    for name in order[:MAX_ROWS]:
        table.add_row(Text(name), *(_number(rows[name].get(one)) for one in columns))
    if len(order) > MAX_ROWS:
        table.add_row(f"... and {len(order) - MAX_ROWS} more")
    return table


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _text(table: Table) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, color_system=None, force_terminal=False).print(table)
    return buffer.getvalue()
