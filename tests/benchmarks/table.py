"""What the benchmarks print, and what they leave behind: a table, JSON, and a plot."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from tests.benchmarks.machine import describe, machine
from tests.benchmarks.measured import Figures
from tests.benchmarks.pairs import AGAIN, Results, Spread, Table

__all__ = ["machine", "read_samples", "show", "to_json", "write"]

WIDTH = 140


def show(results: Results) -> None:
    """Print a table: medians with lowest and highest, ratios to ours with theirs, and how the goals were met."""
    table = results.table
    columns = _columns(results)
    shown = RichTable(title=table.title, caption=machine(), width=WIDTH)
    ratio = f"{table.figure.replace('_', ' ')} x ours"
    for heading in ("", table.seconds_unit[0], *(heading for heading, _ in columns.values()), ratio, ""):
        shown.add_column(heading, justify="right" if heading else "left")
    for name in results.samples:
        shown.add_row(name, *_cells(results, name, columns), _text(results.ratios(name)), results.verdict(name))
    for name, reason in results.missing.items():
        shown.add_row(name, *["-"] * (2 + len(columns)), reason)
    console = Console(width=WIDTH)
    console.print(shown)
    for line in _goal_lines(results):
        console.print(line, highlight=False)


def write(all_results: Sequence[Results], name: str, folder: Path) -> None:
    """Write NAME.json, and NAME.svg where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(to_json(all_results), indent=1) + "\n")
    try:
        from tests.benchmarks.plot import plot
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'perdure[bench]')", file=sys.stderr)
    else:
        plot(all_results, folder / f"{name}.svg")


def read_samples(name: str, folder: Path) -> list[dict[str, list[Figures]]]:
    """The samples of each table that NAME.json holds; none where there is no such file."""
    path = folder / f"{name}.json"
    return [table["samples"] for table in json.loads(path.read_text())["tables"]] if path.exists() else []


def to_json(all_results: Sequence[Results]) -> dict[str, Any]:
    """All that was measured, as plain JSON values; times in seconds, sizes in bytes."""
    taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"machine": describe(), "taken": taken, "tables": [_one(results) for results in all_results]}


def _one(results: Results) -> dict[str, Any]:
    table = results.table
    return {
        **{name: getattr(table, name) for name in ("title", "ours", "figure", "axis", "at")},
        "samples": results.samples,
        "missing": results.missing,
        "ratios": {name: asdict(results.ratios(name)) for name in results.samples},
        "verdicts": {name: results.verdict(name) for name in results.samples},
        "goals": [
            {**asdict(goal), "reached": None if met is None else met[1], "ours": met and asdict(met[0])}
            for goal in table.goals
            for met in [results.reached(goal)]
        ],
    }


def _goal_lines(results: Results) -> Iterator[str]:
    for goal in results.table.goals:
        met = results.reached(goal)
        if met is None:
            yield f"goal    {goal.says}: cannot be told, {goal.against} is missing"
            continue
        unit, factor = ("x", 1.0) if goal.against and not goal.is_above else _unit(results.table, goal.figure)
        says = f"{'reached' if met[1] else 'MISSED'}: {_text(met[0], factor)} {unit}"
        yield f"goal    {goal.says}: {says}, at most {goal.most * factor:.4g} is asked"
    if AGAIN in results.samples:
        yield f"        ours against ours {_text(results.ratios(AGAIN))}: a median within that is called equal"


def _unit(table: Table, figure: str) -> tuple[str, float]:
    if figure.endswith("_bytes"):
        return "MB", 1e-6
    return table.seconds_unit if figure.endswith("seconds") else (figure, 1.0)


def _columns(results: Results) -> dict[str, tuple[str, float]]:
    """The heading and the factor of every figure that some case has, beside the seconds."""
    unit, factor = results.table.seconds_unit
    known = {"cpu_seconds": (f"CPU {unit}", factor), "peak_bytes": ("peak MB", 1e-6)}
    there = {name: None for samples in results.samples.values() for name in samples[0]}
    more = {name: _heading(name, unit, factor) for name in there if name not in ("seconds", *known)}
    return {name: known[name] for name in known if name in there} | more


def _heading(name: str, unit: str, factor: float) -> tuple[str, float]:
    if name.endswith("_seconds"):
        return f"{name.removesuffix('_seconds').replace('_', ' ')}, {unit}", factor
    return name.replace("_", " "), 1.0


def _cells(results: Results, case: str, columns: Mapping[str, tuple[str, float]]) -> list[str]:
    """Seconds with their spread; of the other figures the medians, "" where the case has none."""
    there = results.samples[case][0]
    medians = {name: Spread.of(results.figures(case, name)).median for name in columns if name in there}
    seconds = _text(Spread.of(results.figures(case, "seconds")), results.table.seconds_unit[1])
    return [seconds, *(f"{medians[name] * columns[name][1]:.3g}" if name in medians else "" for name in columns)]


def _text(spread: Spread, factor: float = 1.0) -> str:
    return f"{spread.median * factor:.3g} ({spread.low * factor:.3g} to {spread.high * factor:.3g})"
