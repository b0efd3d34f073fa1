"""Cases measured in turn under the same conditions, and what may be said of their ratios.

Each round measures every case once, in alternating order, and ours twice: how much ours differs from ours is what
the machine alone does to a ratio. The first round warms up and is not counted.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.benchmarks.measured import Case, Figures, Unavailable

AGAIN = "ours again"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What ours (or `case`) shall reach: its `figure` at most `most`; with `against`, as a multiple of that case's.

    `is_above`: `most` is how far it may lie above the other instead of a multiple.
    """

    says: str
    figure: str = "seconds"
    most: float
    case: str = ""
    against: str = ""
    is_above: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """What is measured together: the cases by name, and which of them is ours.

    `figure` is what ratios are made of. `at`: this table's place on the `axis` of a plot, for one of a row of tables.
    `seconds_unit`: how one second is shown, such as ("us", 1e6).
    """

    title: str
    cases: Mapping[str, Case]
    ours: str
    figure: str = "seconds"
    goals: Sequence[Goal] = ()
    axis: str = ""
    at: float | None = None
    seconds_unit: tuple[str, float] = ("s", 1.0)
    warms_up: bool = True


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of some numbers."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """The spread of at least one number."""
        return Spread(statistics.median(values), min(values), max(values))


@dataclass
class Results:
    """The figures of each case, round by round, and why others have none."""

    table: Table
    samples: dict[str, list[Figures]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def after(self, earlier: Mapping[str, list[Figures]]) -> "Results":
        """These and the samples of an earlier run of the same cases; ValueError where those are others."""
        if earlier.keys() != self.samples.keys():
            raise ValueError(f"{self.table.title}: measured before were {', '.join(earlier)}; use another --out")
        return replace(self, samples={name: [*earlier[name], *found] for name, found in self.samples.items()})

    def figures(self, case: str, name: str) -> list[float]:
        """One figure of a case, round by round."""
        return [sample[name] for sample in self.samples[case]]

    def ratios(self, case: str) -> Spread:
        """The case's figure as a multiple of ours, round by round."""
        pairs = zip(
            self.figures(case, self.table.figure), self.figures(self.table.ours, self.table.figure), strict=True
        )
        return Spread.of([each / ours for each, ours in pairs])

    def verdict(self, case: str) -> str:
        """Whether the case takes more or less than ours; equal where ours differs as much from itself."""
        if case in (self.table.ours, AGAIN) or AGAIN not in self.samples:
            return ""
        again, median = self.ratios(AGAIN), self.ratios(case).median
        furthest = max(again.high, 1 / again.low)
        return "equal" if 1 / furthest <= median <= furthest else "more" if median > 1 else "less"

    def reached(self, goal: Goal) -> tuple[Spread, bool] | None:
        """How ours stands, and whether the median is where it shall be; None where the other is missing."""
        if goal.against in self.missing:
            return None
        ours = self.figures(goal.case or self.table.ours, goal.figure)
        if goal.against:
            pairs = zip(ours, self.figures(goal.against, goal.figure), strict=True)
            ours = [mine - other if goal.is_above else mine / other for mine, other in pairs]
        spread = Spread.of(ours)
        return spread, spread.median <= goal.most


def run(table: Table, num_pairs: int, *, is_tiny: bool = False) -> Results:
    """Measure a table; when tiny without warming up, and ours once."""
    cases = dict(table.cases) if is_tiny else {**table.cases, AGAIN: table.cases[table.ours]}
    num_warm = int(table.warms_up and not is_tiny)
    results = Results(table, {name: [] for name in cases})
    for number in range(num_pairs + num_warm):
        for name in list(cases)[:: 1 if number % 2 else -1]:
            if name not in results.missing:
                _measure(results, name, cases[name], counts=number >= num_warm)
    return results


def _measure(results: Results, name: str, case: Case, *, counts: bool) -> None:
    try:
        figures = case()
    except Unavailable as error:
        results.missing[name] = str(error)
        results.samples.pop(name)
    else:
        if counts:
            results.samples[name].append(figures)
