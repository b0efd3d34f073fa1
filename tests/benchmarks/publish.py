"""What a checkpoint costs on its way from the snapshot to the commit, against obstore streaming the same bytes.

python -m tests.benchmarks.publish [--pairs N] [--tiny]
"""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import obstore
import torch

from cloud.objects import NUM_PARALLEL_PARTS, PART_BYTES
from cloud.open import open_store
from tests.benchmarks.large_state import content, layers, moved, saver_on, tensors, trained
from tests.benchmarks.measured import Figures, measured
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from tests.benchmarks.start import s3_unless_tiny
from trainer.snapshot import HostCopy

OURS, BARE, DIGESTS = "perdure", "bare obstore", "SHA-256 alone"
PIECE_BYTES = 2**20
EXTRA_BYTES = 64 * 10**6


def tables(options: Options) -> Iterator[Table]:
    """Seconds, CPU seconds and memory of publishing; in a fresh process each, against a real S3 server."""
    with tempfile.TemporaryDirectory() as name, s3_unless_tiny(Path(name) / "s3", options) as server:
        num_bytes = options.size(10**9, 10**6)
        url = f"{server.make_bucket('bench')}/run" if server else "memory://bench/run"
        env = server.env if server else None
        cases = {
            OURS: options.child(ours, url, num_bytes, env=env),
            BARE: options.child(bare, url, num_bytes, env=env),
            DIGESTS: options.child(digests, num_bytes, env=env),
        }
        yield Table(
            title=f"a snapshot of {num_bytes / 1e6:.4g} MB published to a local SeaweedFS",
            cases=cases,
            ours=OURS,
            figure="cpu_seconds",
            goals=[
                Goal(says="CPU at most 1.5 of bare obstore", figure="cpu_seconds", most=1.5, against=BARE),
                Goal(
                    says="memory at most 64 MB above it", figure="peak_bytes", most=EXTRA_BYTES, against=BARE,
                    is_above=True,
                ),
                Goal(says="time, for comparison", most=1.1, against=BARE),
            ],
            warms_up=False,
        )  # fmt: skip


def ours(url: str, num_bytes: int) -> Figures:
    """From a snapshot to the record; the snapshot itself is the business of `blocked`."""
    torch.set_num_threads(1)
    state = trained(layers(num_bytes))
    with saver_on(open_store(url, writable=True)) as saver:

        def publish() -> None:
            saver.save(content(moved(state)), (), None)
            saver.wait()

        publish()  # makes the buffers
        publish()  # looks, once in an attempt, for what killed ones left unfinished
        return measured(publish)


def bare(url: str, num_bytes: int) -> Figures:
    """The bytes of the same tensors, and the same copy of them before, through obstore's own writer."""
    torch.set_num_threads(1)
    state, host = content(trained(layers(num_bytes))), HostCopy()
    place = open_store(url, writable=True).inner._place  # type: ignore[attr-defined]

    def stream() -> None:
        payload = host.take(state)
        with obstore.open_writer(
            place.uploads, f"{place.prefix}bare", buffer_size=PART_BYTES, max_concurrency=NUM_PARALLEL_PARTS
        ) as writer:
            for piece in pieces(payload):
                writer.write(piece)

    stream()
    return measured(stream)


def digests(num_bytes: int) -> Figures:
    """What digesting takes of that by itself, on one core."""
    torch.set_num_threads(1)
    payload = HostCopy().take(content(trained(layers(num_bytes))))

    def digest() -> None:
        found = hashlib.sha256()
        for piece in pieces(payload):
            found.update(piece)

    return measured(digest)


def pieces(payload: object) -> Iterator[bytes]:
    """All tensors as bytes that nobody changes, which obstore asks for."""
    for tensor in tensors(payload):
        view = tensor.reshape(-1).view(torch.uint8).numpy().data
        yield from (bytes(view[start : start + PIECE_BYTES]) for start in range(0, len(view), PIECE_BYTES))


if __name__ == "__main__":
    main(tables)
