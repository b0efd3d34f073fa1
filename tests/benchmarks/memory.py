"""Whether memory grows over 100 saves.

python -m tests.benchmarks.memory [--pairs N] [--tiny]
"""

from collections.abc import Iterator

from tests.benchmarks.large_state import content, discarding, layers, moved, saver_on, trained
from tests.benchmarks.measured import Figures, resident
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main

OURS = "perdure"
NUM_WARM = 10


def tables(options: Options) -> Iterator[Table]:
    """Resident memory after 10 and after 110 saves."""
    num_bytes, num_saves = options.size(10**8, 10**6), options.size(100, 2)
    yield Table(
        title=f"{num_saves} saves of {num_bytes / 1e6:.4g} MB after the first {NUM_WARM}",
        cases={OURS: options.child(saves, num_bytes, num_saves)},
        ours=OURS,
        goals=[Goal(says="memory grows by no more than a hundredth of the state", figure="grown_bytes", most=1e6)],
        warms_up=False,
    )


def saves(num_bytes: int, num_saves: int) -> Figures:
    """What memory grew by."""
    state = trained(layers(num_bytes))
    with saver_on(discarding()) as saver:
        sizes = []
        for number in range(NUM_WARM + num_saves):
            saver.save(content(moved(state)), (), None)
            saver.wait()
            if number + 1 in (NUM_WARM, NUM_WARM + num_saves):
                sizes.append(resident("VmRSS"))
    return {"grown_bytes": sizes[-1] - sizes[0]}


if __name__ == "__main__":
    main(tables)
