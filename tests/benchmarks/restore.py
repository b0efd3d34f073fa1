"""A checkpoint fetched, verified, restored, and two steps, against bare obstore ranges and the copies that must be.

python -m tests.benchmarks.restore [--pairs N] [--tiny]
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import obstore
import torch

from cloud import verifying
from cloud.allocator import give_back
from cloud.folder import OutputFolder
from cloud.open import open_store
from cloud.transfer import PART_BYTES, Digester, no_check
from entrypoint.resume import payload_of
from perdure import Vocabulary
from tests.benchmarks.large_state import CPU, SETTINGS, Layers, content, layers, saver_on, step, tensors, trained
from tests.benchmarks.measured import Figures, measured
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from tests.benchmarks.start import s3_unless_tiny
from trainer.state import TrainState, new_state, restored

OURS, BARE, BLIND = "perdure", "bare obstore, copies, no digests", "perdure, digests left out"
NUM_THREADS = 8
EXTRA_BYTES = 200 * 10**6


def tables(options: Options) -> Iterator[Table]:
    """Seconds to the end of the second step, and memory, in a fresh process each, from a real S3 server."""
    with TemporaryDirectory() as name, s3_unless_tiny(Path(name) / "s3", options) as server:
        num_bytes = options.size(10**9, 10**6)
        url = f"{server.make_bucket('bench')}/run" if server else "memory://bench/restore"
        env = server.env if server else None
        options.child(committed, url, num_bytes, env=env)()
        state_bytes = sum(tensor.nbytes for tensor in tensors(content(trained(layers(num_bytes)))))
        yield Table(
            title=f"a checkpoint of {state_bytes / 1e6:.4g} MB restored from a local SeaweedFS, to the end of step 2",
            cases={
                OURS: options.child(ours, url, num_bytes, True, env=env),
                BLIND: options.child(ours, url, num_bytes, False, env=env),
                BARE: options.child(bare, url, num_bytes, env=env),
            },
            ours=OURS,
            goals=[
                Goal(says="at least 0.8 as fast as bare obstore, digests included", most=1 / 0.8, against=BARE),
                Goal(says="memory: the state and 200 MB", figure="above_state_bytes", most=EXTRA_BYTES),
                Goal(says="nothing stays mapped", figure="mapped_bytes", most=0.0),
            ],
            warms_up=False,
        )


def committed(url: str, num_bytes: int) -> None:
    """A folder with one checkpoint of that size."""
    with saver_on(open_store(url, writable=True)) as saver:
        saver.save(content(trained(layers(num_bytes))), (), None)
        saver.wait()


def ours(url: str, num_bytes: int, verifies: bool) -> Figures:
    """As the job does it."""
    task = layers(num_bytes)

    def restore(scratch: Path) -> TrainState:
        chosen = OutputFolder(open_store(url)).choose(no_check)
        assert chosen is not None
        state = restored(task, payload_of(chosen), Vocabulary(), SETTINGS, CPU)
        give_back()
        return state

    with nullcontext() if verifies else unverified():
        return restoring(task, restore)


@contextmanager
def unverified() -> Iterator[None]:
    """Bytes are taken as they come, to see what digests cost."""

    def count(self: Digester, start: int, data: bytes) -> None:
        self.size += len(data)

    with patch.object(Digester, "update_at", count), patch.object(verifying, "_compare"):
        yield


def bare(url: str, num_bytes: int) -> Figures:
    """The object by parallel ranges into one piece of memory, and from there into network and optimizer."""
    task, place = layers(num_bytes), open_store(url).inner._place  # type: ignore[attr-defined]

    def restore(scratch: Path) -> TrainState:
        key = next(entry.key for entry in open_store(url).list("ckpt_") if entry.key.endswith(".pth"))
        buffer = fetched(place, key, open_store(url).stat(key).size)
        state = new_state(task, Vocabulary(), SETTINGS, CPU)
        fill(state, buffer)
        return state

    return restoring(task, restore)


def fetched(place: object, key: str, size: int) -> torch.Tensor:
    """The bytes of an object."""
    buffer = torch.empty(size, dtype=torch.uint8)
    view = memoryview(buffer.numpy())

    def part(start: int) -> None:
        end = min(start + PART_BYTES, size)
        view[start:end] = memoryview(obstore.get_range(place.backend, place.prefix + key, start=start, end=end))  # type: ignore[attr-defined]

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(part, range(0, size, PART_BYTES)))
    return buffer


def fill(state: TrainState, buffer: torch.Tensor) -> None:
    """Copy bytes into every parameter, and new moments out of them; which is where does not matter here."""
    start = 0
    for parameter in state.parameters:
        copies = []
        for _ in range(3):
            flat = buffer[start : start + parameter.nbytes].clone().view(torch.float32)
            copies.append(flat.reshape(parameter.shape))
            start += parameter.nbytes
        parameter.data.copy_(copies[0])
        moments = {"exp_avg": copies[1], "exp_avg_sq": copies[2].abs_(), "step": torch.tensor(1.0)}
        state.optimizer.state[parameter] = moments


def restoring(task: Layers, restore: Callable[[Path], TrainState]) -> Figures:
    """Time and memory of one way to restore, with two steps; `restored_seconds` is without these."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as the job does: two ways whose moments differ shall not take steps that differ
    with TemporaryDirectory() as scratch:
        found: dict[str, float] = {}

        def whole() -> None:
            started = time.perf_counter()
            state = restore(Path(scratch))
            found["restored_seconds"] = time.perf_counter() - started
            for _ in range(2):
                step(task, state)
            found["state_bytes"] = sum(tensor.nbytes for tensor in tensors(content(state)))
            found["mapped_bytes"] = mapped_bytes(scratch)

        figures = dict(measured(whole))
    gradients = found.pop("state_bytes") / 3
    return {**figures, **found, "above_state_bytes": figures["peak_bytes"] - 4 * gradients}


def mapped_bytes(folder: str) -> float:
    """What of this process's memory is a file below `folder`."""
    maps = Path("/proc/self/maps")
    lines = [line.split(maxsplit=5) for line in maps.read_text().splitlines()] if maps.exists() else []
    spans = [line[0].split("-") for line in lines if line[-1].startswith(folder)]
    return float(sum(int(end, 16) - int(start, 16) for start, end in spans))


if __name__ == "__main__":
    main(tables)
