"""Images (32 x 32 PNG) out of tar shards as batches of tensors: the first pass, which decodes, and later ones.

python -m tests.benchmarks.images [--pairs N] [--tiny]

All give float32 batches of 64 in a shuffled order, by the same conversion. Peers: webdataset, without workers and with
two (it decodes in every pass), and plain tarfile with Pillow.
"""

import hashlib
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.benchmarks.measured import Figures
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from trainer.background import in_background
from trainer.data import Loader
from trainer.ledger import Ledger, Shard
from trainer.opened import OpenShards
from trainer.plan import Progress, next_round, target
from trainer.settings import TrainSettings
from trainer.task import make_task
from trainer.vocabulary import Vocabulary
from trainer.world import World

BATCH_SIZE = 64
LABELS = tuple("0123456789")
SETTINGS = TrainSettings(epochs=3, batch_size=BATCH_SIZE)
LATER_PASSES = 2
FIRST_OF_OURS, LATER_OF_OURS = "perdure, no workers", "perdure, from memory"
WDS, WDS_2, PLAIN = "webdataset, no workers", "webdataset, 2 workers", "tarfile and Pillow"


def tables(options: Options) -> Iterator[Table]:
    """Seconds per pass and images per second, the first pass apart from later ones."""
    num_shards, num_each = options.size((10, 2000), (2, 70))
    with tempfile.TemporaryDirectory() as name:
        write_shards(Path(name), num_shards, num_each)
        peers = {
            WDS: options.child(webdataset_pass, name, 0),
            WDS_2: options.child(webdataset_pass, name, 2),
            PLAIN: options.child(plain_pass, name),
        }
        ours = partial(options.child, our_passes, name, num_each)
        yield Table(
            title=f"first pass over {num_shards * num_each:,} images in {num_shards} tar shards",
            cases={FIRST_OF_OURS: ours("memory", False), "perdure, ahead in a thread": ours("ahead", False), **peers},
            ours=FIRST_OF_OURS,
            goals=[Goal(says="twice webdataset", most=0.5, against=WDS),
                   Goal(says="twice webdataset with 2 workers", most=0.5, against=WDS_2)],
        )  # fmt: skip
        yield Table(
            title=f"a later pass over {num_shards * num_each:,} images",
            cases={LATER_OF_OURS: ours("memory", True), "perdure, from the decoded file": ours("disk", True), **peers},
            ours=LATER_OF_OURS,
            goals=[Goal(says="20 times webdataset", most=1 / 20, against=WDS),
                   Goal(says="20 times webdataset with 2 workers", most=1 / 20, against=WDS_2)],
        )  # fmt: skip


def write_shards(folder: Path, num_shards: int, num_each: int) -> None:
    """Tars of smooth images with a little noise, so that they compress as photographs do."""
    random = np.random.default_rng(0)
    for number in range(num_shards):
        with tarfile.open(folder / f"{number:03}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for place in range(num_each):
                for name, content in _example(random, f"{place:06}"):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def _example(random: np.random.Generator, key: str) -> Iterator[tuple[str, bytes]]:
    down, right = (
        np.outer(random.random(3), np.linspace(0, 200, 32)),
        np.outer(random.random(3), np.linspace(0, 50, 32)),
    )
    pixels = (down[:, :, None] + right[:, None, :] + random.normal(size=(3, 32, 32)) * 6).clip(0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8).transpose(1, 2, 0)).save(file, "PNG")
    yield f"{key}.png", file.getvalue()
    yield f"{key}.cls", LABELS[int(random.integers(len(LABELS)))].encode()


class Folder:
    """Shards that are read where they lie."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prefetch(self, wanted: object) -> None:
        """They are there."""

    def acquire(self, wanted: Shard) -> tuple[Path, str]:
        """The file itself."""
        return self._folder / wanted.key, wanted.sha256

    def release(self, key: str) -> None:
        """It stays."""


def our_passes(folder: str, num_each: int, way: str, later: bool) -> Figures:
    """One thread makes all batches, but for `ahead`, where it runs ahead of the one that takes them."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as decoded:
        memory_bytes = 0 if way == "disk" else 2**31
        loader = _loader(Path(folder), num_each, memory_bytes, Path(decoded))
        blocks: Any = loader.blocks(0)
        batches = (
            batch
            for block in (in_background(blocks, 16, lambda: False) if way == "ahead" else blocks)
            for batch in block
        )
        pass_examples = loader.goal.pass_examples
        first = _seconds(batches, lambda batch: batch.end == pass_examples)
        if not later:
            return _figures(first, pass_examples)
        last = loader.goal.num_examples
        return _figures(_seconds(batches, lambda batch: batch.end == last) / LATER_PASSES, pass_examples)


def _loader(folder: Path, num_each: int, memory_bytes: int, decoded: Path) -> Loader:
    task = make_task("images", {})
    opened = OpenShards(task, Folder(folder), memory_bytes, folder=decoded, disk_bytes=2**31)
    shards = [
        Shard(key=path.name, size=path.stat().st_size, sha256=hashlib.sha256(path.name.encode()).hexdigest(),
              num_read=num_each, num_examples=num_each)
        for path in sorted(folder.glob("*.tar"))
    ]  # fmt: skip
    round = next_round(Ledger(), shards, [], SETTINGS, 2**30)
    assert round is not None
    vocabulary = Vocabulary().add("label", LABELS)
    return Loader(round, target(round, SETTINGS, Progress()), opened, vocabulary, 0, World())


def _seconds(batches: Iterator[Any], is_last: Callable[[Any], bool]) -> float:
    started = time.perf_counter()
    for batch in batches:
        if is_last(batch):
            break
    return time.perf_counter() - started


def webdataset_pass(folder: str, num_workers: int) -> Figures:
    """A pass as its documentation has it: shuffled shards, a shuffle buffer, decoded to uint8."""
    import webdataset

    torch.set_num_threads(1)
    urls = [str(path) for path in sorted(Path(folder).glob("*.tar"))]
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=len(urls), nodesplitter=None, seed=0)
        .shuffle(1000)
        .decode("rgb8")
        .to_tuple("png", "cls")
        .batched(BATCH_SIZE, collation_fn=_collated)
    )
    batches = webdataset.WebLoader(dataset, batch_size=None, num_workers=num_workers)
    return _counted(batches)


def plain_pass(folder: str) -> Figures:
    """What one writes by hand: each tar's members in turn."""
    torch.set_num_threads(1)
    return _counted(_plain_batches(Path(folder)))


def _plain_batches(folder: Path) -> Iterator[tuple[Tensor, Tensor]]:
    held: list[tuple[np.ndarray, int]] = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path, "r:") as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for name in [name for name in members if name.endswith(".png")]:
            image = np.asarray(Image.open(io.BytesIO(members[name])).convert("RGB"))
            held.append((image, int(members[name.replace(".png", ".cls")])))
            if len(held) == BATCH_SIZE:
                yield _collated(held)
                held = []
    if held:
        yield _collated(held)


def _collated(examples: Any) -> tuple[Tensor, Tensor]:
    """The conversion that ours has too."""
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in examples]))
    images = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return images, torch.tensor([int(label) for _, label in examples])


def _counted(batches: Any) -> Figures:
    started, num_images = time.perf_counter(), 0
    for images, _ in batches:
        num_images += len(images)
    return _figures(time.perf_counter() - started, num_images)


def _figures(seconds: float, num_images: int) -> Figures:
    return {"seconds": seconds, "images_per_second": num_images / seconds}


if __name__ == "__main__":
    main(tables)
