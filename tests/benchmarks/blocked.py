"""How long training stands still for a checkpoint: its copy at a step boundary; and steps while it is published.

python -m tests.benchmarks.blocked [--pairs N] [--tiny]
"""

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint import async_save

from tests.benchmarks.large_state import Layers, content, discarding, layers, moved, saver_on, step, tensors, trained
from tests.benchmarks.measured import Figures
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from trainer.state import TrainState

OURS = "perdure, later saves"
COPY = "copy into buffers that exist"
PUBLISHING, QUIET, BESIDE = "perdure, while publishing", "quiet", "beside another process, which only digests"
DIGESTING = """
import hashlib, os
os.nice(10)
content = bytes(2**20)
print(flush=True)
while True:
    hashlib.sha256(content)
"""
"""Nothing of it is shared with the steps but the machine: what it does to them nobody can avoid."""


def tables(options: Options) -> Iterator[Table]:
    """Seconds that a save takes from the training, and the slowest of a hundred steps beside an upload."""
    task = layers(options.size(10**9, 10**6))
    state = trained(task)
    buffers = [torch.empty_like(tensor) for tensor in tensors(content(state))]
    with saver_on(discarding()) as saver:

        def ours() -> Figures:
            moved(state)
            seconds = taken(lambda: saver.save(content(state), (), None))
            saver.wait()
            return figures(seconds)

        first = ours()["seconds"]
        yield Table(
            title=f"training blocked by a save of {state_bytes(state) / 1e6:.4g} MB (the first one: {first:.2g} s)",
            cases={
                OURS: ours,
                COPY: lambda: figures(taken(lambda: copy(state, buffers))),
                "torch.save to memory": lambda: figures(taken(lambda: torch.save(content(state), io.BytesIO()))),
                "DCP async_save": lambda: dcp(state),
            },
            ours=OURS,
            goals=[Goal(says="at most twice the copy", most=2.0, against=COPY)],
            warms_up=not options.tiny,
        )
    buffers.clear()
    torch.set_num_threads(1)
    yield disturbed(state, layers(0), options.size(4000, 5), warms_up=not options.tiny)


def disturbed(state: TrainState, task: Layers, num_steps: int, *, warms_up: bool) -> Table:
    """The 99th percentile of steps of a small network while a large state is published over and over."""
    small = trained(task)

    def steps(between: Callable[[], object]) -> Figures:
        seconds = []
        for _ in range(num_steps):
            between()
            seconds.append(taken(lambda: step(task, small)))
        return {**figures(float(np.percentile(seconds, 99))), "median_seconds": float(np.median(seconds))}

    def publishing() -> Figures:
        with saver_on(discarding(), save_every_seconds=1e-9) as saver:

            def save_again() -> None:
                if saver.due():
                    saver.save(content(moved(state)), (), None)

            save_again()
            saver.wait()  # the first copy makes its buffers
            found = steps(save_again)
            saver.wait()
        return found

    def beside() -> Figures:
        with subprocess.Popen([sys.executable, "-c", DIGESTING], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                process.stdout.readline()
                return steps(lambda: None)
            finally:
                process.kill()

    return Table(
        title=f"99th percentile of the steps of a small network, torch on one thread, {num_steps} steps",
        cases={PUBLISHING: publishing, QUIET: lambda: steps(lambda: None), BESIDE: beside},
        ours=PUBLISHING,
        goals=[
            Goal(says="at most 1.1 of the quiet ones", most=1.1, against=QUIET),
            Goal(says="which of another process's digesting are", case=BESIDE, most=1.1, against=QUIET),
        ],
        seconds_unit=("ms", 1e3),
        warms_up=warms_up,
    )


def copy(state: TrainState, buffers: list[torch.Tensor]) -> None:
    """What nobody can do without."""
    for buffer, tensor in zip(buffers, tensors(content(state)), strict=True):
        buffer.copy_(tensor)


def dcp(state: TrainState) -> Figures:
    """What torch's own asynchronous checkpoint blocks for; it writes to memory where the system has such a folder."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        held: list[Any] = []
        seconds = taken(lambda: held.append(async_save(content(moved(state)), checkpoint_id=folder, no_dist=True)))
        held[0].result()
    return figures(seconds)


def state_bytes(state: TrainState) -> int:
    """Of all its tensors."""
    return sum(tensor.nbytes for tensor in tensors(content(state)))


def taken(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def figures(seconds: float) -> Figures:
    """Nothing but the time is of interest."""
    return {"seconds": seconds, "cpu_seconds": 0.0, "peak_bytes": 0.0}


if __name__ == "__main__":
    main(tables)
