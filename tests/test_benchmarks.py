"""Every program of tests/benchmarks/ still runs, at tiny sizes and whatever its times; what is said of ratios."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import PROGRAMS
from tests.benchmarks.measured import Unavailable, in_child, measured, program
from tests.benchmarks.nlu_compare import Judged, difference
from tests.benchmarks.pairs import AGAIN, Goal, Results, Table, run
from tests.benchmarks.program import Options, main

LONG_BYTES = 50_000_000


def test_every_program_is_known() -> None:
    files = (Path(__file__).parent / "benchmarks").glob("*.py")
    assert {path.stem for path in files if "def tables(options: Options)" in path.read_text()} == set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_runs(name: str, tmp_path: Path) -> None:
    tables = importlib.import_module(f"tests.benchmarks.{name}").tables
    main(tables, ["--tiny", "--pairs", "1", "--out", str(tmp_path)])
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written["machine"]["torch"]
    assert written["tables"]
    for table in written["tables"]:
        assert table["ours"] in table["samples"]
        assert all(sample["seconds"] > 0 for samples in table["samples"].values() for sample in samples)


def test_more_samples_join_those_of_before(tmp_path: Path) -> None:
    def tables(options: Options) -> Iterator[Table]:
        yield Table(title="", cases={"ours": lambda: {"seconds": 1.0}}, ours="ours")

    arguments = ["--tiny", "--pairs", "2", "--out", str(tmp_path)]
    counts = [len(main(tables, [*arguments, *more])[0].samples["ours"]) for more in (["--more"], ["--more"], [])]
    assert counts == [2, 4, 2]
    with pytest.raises(ValueError, match="measured before were ours; use another --out"):
        Results(Table(title="", cases={}, ours="a"), {"a": []}).after({"ours": []})


def with_ratios(theirs: list[float], again: list[float]) -> Results:
    """Results in which ours always takes a second."""
    table = Table(title="", cases={}, ours="ours", goals=[Goal(says="", most=1.5, against="theirs")])
    all_seconds = {"ours": [1.0] * len(theirs), "theirs": theirs, AGAIN: again}
    return Results(table, {name: [{"seconds": each} for each in values] for name, values in all_seconds.items()})


@pytest.mark.parametrize(
    ("theirs", "verdict"), [([1.04, 1.09, 1.3], "equal"), ([1.1, 1.2, 1.3], "more"), ([0.5, 0.9, 2.0], "less")]
)
def test_a_ratio_within_ours_against_ours_is_equal(theirs: list[float], verdict: str) -> None:
    assert with_ratios(theirs, [0.95, 1.0, 1.09]).verdict("theirs") == verdict


def test_goals_are_about_ratios_round_by_round_or_about_differences() -> None:
    results = with_ratios([0.5, 0.8, 1.0], [1.0, 1.0, 1.0])
    met = results.reached(Goal(says="", most=1.2, against="theirs"))
    assert met is not None and (met[0].median, met[1]) == (1.25, False)
    met = results.reached(Goal(says="", most=0.25, against="theirs", is_above=True))
    assert met is not None and (met[0].median, met[1]) == (pytest.approx(0.2), True)


def test_what_is_not_installed_is_a_row_that_says_so() -> None:
    def missing() -> None:
        import nowhere_to_be_found  # noqa: F401

    table = Table(
        title="",
        cases={
            "ours": lambda: {"seconds": 1.0},
            "a": lambda: measured(missing),
            "b": lambda: program(["no-such-tool"]),
        },
        ours="ours",
        goals=[Goal(says="", most=1.0, against="a")],
    )
    results = run(table, 2)
    assert results.missing == {"a": "not installed: nowhere_to_be_found", "b": "not installed: no-such-tool"}
    assert len(results.samples["ours"]) == 2
    assert results.reached(table.goals[0]) is None


def hold(num_bytes: int) -> dict[str, float]:
    """Memory that is there only for a moment."""
    return {"length": float(len(b"x" * num_bytes))}


def hold_more_before(num_bytes: int) -> dict[str, float]:
    """What `measured` says of work after some that took more."""
    hold(4 * num_bytes)
    return dict(measured(hold, num_bytes))


def test_peak_memory_is_that_of_the_work_alone() -> None:
    """In a process of its own, as threads of other tests free memory in this one; one peak lies before it."""
    figures = in_child(hold_more_before, LONG_BYTES)
    assert figures["length"] == LONG_BYTES
    assert 0.9 * LONG_BYTES < figures["peak_bytes"] < 1.5 * LONG_BYTES


def test_a_child_says_what_went_wrong() -> None:
    with pytest.raises(RuntimeError, match=r"hold(.|\n)*TypeError"):
        in_child(hold, "no number")
    with pytest.raises(Unavailable):
        program(["no-such-tool"])


def test_seeds_that_say_the_same_make_a_difference_no_surer() -> None:
    """Weighted F1, ours minus theirs; messages are drawn anew, not the answers to them."""
    truth = ["a", "b"] * 20
    worse = ["a"] * 40
    assert difference([Judged(truth, [truth], [truth])]) == {"mean": 0, "low": 0, "high": 0}
    one, three = (difference([Judged(truth, [truth] * seeds, [worse] * seeds)]) for seeds in (1, 3))
    assert one == pytest.approx(three)
    assert one["mean"] == pytest.approx(1 - 1 / 3)  # F1 of a is 2/3, of b 0
    assert one["low"] < one["mean"] < one["high"] < 1
