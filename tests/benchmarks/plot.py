"""Plots of results: bars of the cases of one table, or a line for each case over a row of tables."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.benchmarks.machine import machine
from tests.benchmarks.pairs import AGAIN, Results, Spread

OURS, OTHERS = "tab:blue", "tab:gray"


def plot(all_results: Sequence[Results], path: Path) -> None:
    """Write one picture of all tables of a program."""
    rows = [results for results in all_results if results.table.at is None]
    lines = [results for results in all_results if results.table.at is not None]
    num_plots = len(rows) + bool(lines)
    figure, axes = plt.subplots(num_plots, 1, figsize=(9, 3.2 * num_plots + 0.6), squeeze=False, layout="constrained")
    for ax, results in zip(axes[:, 0], rows, strict=False):
        _bars(ax, results)
    if lines:
        _lines(axes[-1, 0], lines)
    figure.supxlabel(machine(), fontsize=6)
    figure.savefig(path)
    plt.close(figure)


def _bars(ax: Axes, results: Results) -> None:
    names = [name for name in results.samples if name != AGAIN][::-1]
    unit, factor = _scale(results)
    spreads = [_spread(results, name, factor) for name in names]
    colors = [OURS if name == results.table.ours else OTHERS for name in names]
    ax.barh(names, [each.median for each in spreads], color=colors, xerr=_errors(spreads), error_kw={"lw": 1})
    ax.set_title(results.table.title, fontsize=10)
    ax.set_xlabel(unit)


def _lines(ax: Axes, all_results: Sequence[Results]) -> None:
    unit, factor = _scale(all_results[0])
    for name in dict.fromkeys(name for results in all_results for name in results.samples if name != AGAIN):
        there = [results for results in all_results if name in results.samples]
        spreads = [_spread(results, name, factor) for results in there]
        places = [results.table.at or 0.0 for results in there]
        ax.errorbar(places, [each.median for each in spreads], yerr=_errors(spreads), marker="o", ms=4, label=name)
    ax.set(xscale="log", ylabel=unit, xlabel=all_results[0].table.axis)
    ax.set_ylim(bottom=0)
    ax.set_title(all_results[0].table.title, fontsize=10)
    ax.legend(fontsize=8, loc="upper left")


def _scale(results: Results) -> tuple[str, float]:
    """(label, factor) of the figure that the table is about."""
    unit, factor = results.table.seconds_unit
    figure = results.table.figure
    if figure.endswith("_bytes"):
        return f"{figure.removesuffix('_bytes').replace('_', ' ')} MB", 1e-6
    return (figure.replace("seconds", unit).replace("_", " "), factor) if figure.endswith("seconds") else (figure, 1.0)


def _spread(results: Results, case: str, factor: float) -> Spread:
    return Spread.of([value * factor for value in results.figures(case, results.table.figure)])


def _errors(spreads: Sequence[Spread]) -> list[list[float]]:
    return [[each.median - each.low for each in spreads], [each.high - each.median for each in spreads]]
