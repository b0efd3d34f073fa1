"""What every benchmark program is: a function that yields tables, and a command line.

A program measures each table when it is yielded, so a generator may hold a server or a folder open around it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.measured import Case, Work, in_child, measured
from tests.benchmarks.pairs import Results, Table, run
from tests.benchmarks.table import read_samples, show, write

NUM_PAIRS = 7
FOLDER = Path("build/bench")


@dataclass(frozen=True)
class Options:
    """How a table is to be measured; `tiny`: only to see that it works, in seconds."""

    pairs: int = NUM_PAIRS
    tiny: bool = False
    out: Path = FOLDER
    more: bool = False

    def size(self, full: Any, tiny: Any) -> Any:
        """One of the two."""
        return tiny if self.tiny else full

    def child(self, work: Work, *args: Any, env: Mapping[str, str] | None = None) -> Case:
        """A case that runs in a fresh process, so that its memory is its own; when tiny in this one."""
        return partial(measured, work, *args) if self.tiny and not env else partial(in_child, work, *args, env=env)


Tables = Callable[[Options], Iterator[Table]]


def main(tables: Tables, argv: Sequence[str] | None = None) -> list[Results]:
    """Measure, show and write the tables of a program, under the name of its file."""
    options = parse(sys.argv[1:] if argv is None else argv, tables.__doc__)
    name = Path(tables.__code__.co_filename).stem
    before = read_samples(name, options.out) if options.more else []
    done: list[Results] = []
    for table in tables(options):
        results = run(table, options.pairs, is_tiny=options.tiny)
        done.append(results.after(before.pop(0)) if before else results)
        show(done[-1])
    if done:
        write(done, name, options.out)
    return done


def parse(argv: Sequence[str], about: str | None) -> Options:
    """The options that all programs share."""
    parser = argparse.ArgumentParser(description=about)
    add_options(parser)
    return Options(**vars(parser.parse_args(argv)))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of one program and of all together."""
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS, help="how often each case is measured")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: only to see that it works")
    parser.add_argument("--more", action="store_true", help="join the samples that NAME.json has already")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for JSON and plots")
