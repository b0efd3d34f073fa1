"""Whether memory grows over 100 saves: what one process has resident after every tenth.

python -m tests.benchmarks.memory [--tiny]
"""

import time
from collections.abc import Iterator

from tests.benchmarks.large_state import content, discarding, layers, moved, saver_on, trained
from tests.benchmarks.measured import Figures, resident
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main

EVERY = 10


def tables(options: Options) -> Iterator[Table]:
    """Resident memory after 10, 20 ... 110 saves, and what it grew by since the first 10. All of one process."""
    num_bytes, num_looks = options.size(10**9, 10**6), options.size(11, 2)
    found = options.child(saves, num_bytes, num_looks)()
    names = {f"after {EVERY * (number + 1)} saves": number for number in range(num_looks)}
    yield Table(
        title=f"{EVERY * num_looks} saves of {num_bytes / 1e6:.4g} MB (s: of one save, until it is committed)",
        cases={name: lambda number=number: look(found, number) for name, number in names.items()},  # type: ignore[misc]
        ours=list(names)[-1],
        goals=[Goal(says="grown by a hundredth of the state at most", figure="grown_mb", most=num_bytes / 1e8)],
        warms_up=False,
    )


def look(found: Figures, number: int) -> Figures:
    """The figures of one row."""
    size = found[f"resident_{number}"]
    grown = size - found["resident_0"]
    return {"seconds": found[f"seconds_{number}"], "resident_mb": size / 1e6, "grown_mb": grown / 1e6}


def saves(num_bytes: int, num_looks: int) -> Figures:
    """Seconds of a save, and the resident bytes after every tenth."""
    state, found = trained(layers(num_bytes)), dict[str, float]()
    with saver_on(discarding()) as saver:
        for number in range(num_looks):
            started = time.perf_counter()
            for _ in range(EVERY):
                saver.save(content(moved(state)), (), None)
                saver.wait()
            found[f"seconds_{number}"] = (time.perf_counter() - started) / EVERY
            found[f"resident_{number}"] = resident("VmRSS")
    return found


if __name__ == "__main__":
    main(tables)
