"""What the benchmarks share: the machine in a line, medians, a table."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence

import torch
from rich.console import Console
from rich.table import Table


def machine() -> str:
    """The machine and the versions, for the head of a table."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def show(title: str, unit: str, figures: Mapping[str, Sequence[float]], reference: str) -> None:
    """One row per name: median, minimum and maximum, and the median of the ratios to `reference`, run by run."""
    table = Table(title=f"{title} ({unit}; {machine()})")
    for heading in ("", "median", "min", "max", f"ratio to {reference}"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, values in figures.items():
        ratios = [value / base for value, base in zip(values, figures[reference], strict=True)]
        shown = [statistics.median(values), min(values), max(values)]
        table.add_row(name, *(f"{value:.3g}" for value in shown), f"{statistics.median(ratios):.2f}")
    Console(width=110).print(table)
