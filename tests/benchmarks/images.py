"""Images out of tar shards as batches of tensors: the first pass, which decodes, and later ones.

python -m tests.benchmarks.images [--pairs N] [--tiny]

All give float32 batches of 64 in a shuffled order, by the same conversion: of PNG images of 32 x 32 pixels, and of
JPEG photographs of 256 x 256. Peers: webdataset, without workers and with two (it decodes in every pass), and plain
tarfile with Pillow. What ours would take with processes that decode is measured too: whole shards in two of them.
"""

import hashlib
import io
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.benchmarks.measured import Case, Figures
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from trainer.data import Batch, Loader
from trainer.image_shards import TarImages, decode
from trainer.ledger import Ledger, Shard
from trainer.opened import OpenShards, Shards
from trainer.plan import Progress, next_round, target
from trainer.settings import TrainSettings
from trainer.task import make_task
from trainer.vocabulary import Vocabulary
from trainer.webdataset import read_groups
from trainer.world import World

BATCH_SIZE = 64
LABELS = tuple("0123456789")
SETTINGS = TrainSettings(epochs=3, batch_size=BATCH_SIZE)
LATER_PASSES = 2
FORMATS = {"png": "PNG", "jpg": "JPEG"}
ONE_CORE, ALL_CORES, FROM_MEMORY = "perdure, one core", "perdure, all cores", "perdure, from memory"
WDS, WDS_2, PLAIN = "webdataset, no workers", "webdataset, 2 workers", "tarfile and Pillow"
PROCESSES = "our decoding in 2 processes"


def tables(options: Options) -> Iterator[Table]:
    """Seconds per pass and images per second, the first pass apart from later ones."""
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name) / "small", Path(name) / "large"
        num_shards, num_each = options.size((10, 2000), (2, 70))
        write_shards(small, num_shards, num_each, "png", 32)
        yield _first_pass(options, small, "png", 32)
        yield Table(
            title=f"a later pass over {num_shards * num_each:,} images (PNG, 32 x 32)",
            cases={
                FROM_MEMORY: options.child(our_passes, str(small), 32, "memory", True, 0),
                "perdure, from the decoded file": options.child(our_passes, str(small), 32, "disk", True, 0),
                **_peers(options, small, "png"),
            },
            ours=FROM_MEMORY,
            goals=[Goal(says="20 times webdataset", most=1 / 20, against=WDS),
                   Goal(says="20 times webdataset with 2 workers", most=1 / 20, against=WDS_2)],
        )  # fmt: skip
        write_shards(large, *options.size((4, 400), (2, 35)), "jpg", size := options.size(256, 64))
        yield _first_pass(options, large, "jpg", size)


def _first_pass(options: Options, folder: Path, suffix: str, size: int) -> Table:
    return Table(
        title=f"first pass over images of {size} x {size} pixels ({suffix.upper()}) in tar shards",
        cases={
            ONE_CORE: options.child(our_passes, str(folder), size, "memory", False, 1),
            ALL_CORES: options.child(our_passes, str(folder), size, "memory", False, 0),
            PROCESSES: options.child(process_pass, str(folder), size),
            **_peers(options, folder, suffix),
        },
        ours=ALL_CORES,
        goals=[Goal(says="one core: twice webdataset", most=0.5, case=ONE_CORE, against=WDS),
               Goal(says="all cores: twice webdataset with 2 workers", most=0.5, against=WDS_2),
               Goal(says="processes would take longer", most=1.0, against=PROCESSES)],
    )  # fmt: skip


def _peers(options: Options, folder: Path, suffix: str) -> dict[str, Case]:
    return {
        WDS: options.child(webdataset_pass, str(folder), suffix, 0),
        WDS_2: options.child(webdataset_pass, str(folder), suffix, 2),
        PLAIN: options.child(plain_pass, str(folder), suffix),
    }


def write_shards(folder: Path, num_shards: int, num_each: int, suffix: str, size: int) -> None:
    """Tars of smooth images with a little noise, so that they compress as photographs do."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(num_shards):
        with tarfile.open(folder / f"{number:03}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for place in range(num_each):
                for name, content in _example(random, f"{place:06}", suffix, size):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def _example(random: np.random.Generator, key: str, suffix: str, size: int) -> Iterator[tuple[str, bytes]]:
    down = np.outer(random.random(3), np.linspace(0, 200, size))
    right = np.outer(random.random(3), np.linspace(0, 50, size))
    pixels = (down[:, :, None] + right[:, None, :] + random.normal(size=(3, size, size)) * 6).clip(0, 255)
    file = io.BytesIO()
    options = {"quality": 90} if suffix == "jpg" else {}
    Image.fromarray(pixels.astype(np.uint8).transpose(1, 2, 0)).save(file, FORMATS[suffix], **options)
    yield f"{key}.{suffix}", file.getvalue()
    yield f"{key}.cls", LABELS[int(random.integers(len(LABELS)))].encode()


class Folder:
    """Shards that are read where they lie."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prefetch(self, wanted: object) -> None:
        """They are there."""

    def file_of(self, wanted: Shard) -> AbstractContextManager[tuple[Path, str]]:
        """The file itself."""
        return nullcontext((self._folder / wanted.key, wanted.sha256))


def our_passes(folder: str, size: int, way: str, later: bool, num_cores: int) -> Figures:
    """One thread makes all batches, and decodes with as many more as there are cores; `num_cores` 0: all there are."""
    torch.set_num_threads(1)
    alone = patch("trainer.cores.num_cores", lambda: num_cores) if num_cores else nullcontext()
    with alone, tempfile.TemporaryDirectory() as decoded:
        loader = our_loader(Path(folder), size, Folder(Path(folder)), 0 if way == "disk" else 2**31, Path(decoded))
        batches = loader.batches(0)
        first = pass_seconds(batches, loader, 1)
        num_images = loader.goal.pass_examples
        return _figures(pass_seconds(batches, loader, LATER_PASSES) if later else first, num_images)


def our_loader(folder: Path, size: int, source: Shards, memory_bytes: int, decoded: Path | None = None) -> Loader:
    """Batches of the shards in a local folder, which `source` brings."""
    task = make_task("images", {"image_size": str(size)})
    opened = OpenShards(task, source, memory_bytes, folder=decoded, disk_bytes=2**31)
    shards = [_shard(path) for path in sorted(folder.glob("*.tar"))]
    round = next_round(Ledger(), shards, [], SETTINGS, 2**30)
    assert round is not None
    return Loader(round, target(round, SETTINGS, Progress()), opened, Vocabulary().add("label", LABELS), 0, World())


def _shard(path: Path) -> Shard:
    content = path.read_bytes()
    num_each = len(read_groups(path))
    sha256 = hashlib.sha256(content).hexdigest()
    return Shard(key=path.name, size=len(content), sha256=sha256, num_read=num_each, num_examples=num_each)


def pass_seconds(batches: Iterator[Batch], loader: Loader, num_passes: int) -> float:
    """Seconds of each of the next passes."""
    started = time.perf_counter()
    left = num_passes * loader.goal.pass_examples
    while left > 0:
        left -= next(batches).num_examples
    return (time.perf_counter() - started) / num_passes


def process_pass(folder: str, size: int) -> Figures:
    """What it takes until two processes, which have to start, have decoded all shards and handed them over."""
    torch.set_num_threads(1)
    paths = sorted(Path(folder).glob("*.tar"))
    started, num_images = time.perf_counter(), 0
    with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
        for pixels, labels in pool.map(_decoded_shard, paths, [size] * len(paths)):
            for start in range(0, len(labels), BATCH_SIZE):
                _batch(pixels[start : start + BATCH_SIZE], labels[start : start + BATCH_SIZE])
            num_images += len(labels)
    return _figures(time.perf_counter() - started, num_images)


def _decoded_shard(path: Path, size: int) -> tuple[np.ndarray, list[int]]:
    with patch("trainer.cores.num_cores", lambda: 1):
        shard = TarImages(read_groups(path), size, 3)
        decode([shard], np.zeros(len(shard), np.int64), np.arange(len(shard)))
    return shard.pixels, [int(label) for label in shard.labels]


def webdataset_pass(folder: str, suffix: str, num_workers: int) -> Figures:
    """A pass as its documentation has it: shuffled shards, a shuffle buffer, decoded to uint8."""
    torch.set_num_threads(1)
    return counted(webdataset_batches([str(path) for path in sorted(Path(folder).glob("*.tar"))], suffix, num_workers))


def webdataset_batches(urls: Sequence[str], suffix: str, num_workers: int, cache_dir: str | None = None) -> Any:
    """An iterable of passes."""
    import webdataset

    dataset = (
        webdataset.WebDataset(urls, shardshuffle=len(urls), nodesplitter=None, seed=0, cache_dir=cache_dir)
        .shuffle(1000)
        .decode("rgb8")
        .to_tuple(suffix, "cls")
        .batched(BATCH_SIZE, collation_fn=collated)
    )
    return webdataset.WebLoader(dataset, batch_size=None, num_workers=num_workers)


def plain_pass(folder: str, suffix: str) -> Figures:
    """What one writes by hand: each tar's members in turn."""
    torch.set_num_threads(1)
    return counted(_plain_batches(Path(folder), suffix))


def _plain_batches(folder: Path, suffix: str) -> Iterator[tuple[Tensor, Tensor]]:
    held: list[tuple[np.ndarray, int]] = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path, "r:") as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for name in [name for name in members if name.endswith(f".{suffix}")]:
            image = np.asarray(Image.open(io.BytesIO(members[name])).convert("RGB"))
            held.append((image, int(members[name.replace(f".{suffix}", ".cls")])))
            if len(held) == BATCH_SIZE:
                yield collated(held)
                held = []
    if held:
        yield collated(held)


def collated(examples: Any) -> tuple[Tensor, Tensor]:
    """A batch of pairs of pixels and label."""
    pixels, labels = zip(*examples, strict=True)
    return _batch(np.stack(pixels), list(map(int, labels)))


def _batch(pixels: np.ndarray, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The conversion that ours has too."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1), torch.tensor(labels)


def counted(batches: Any) -> Figures:
    """A pass over an iterable of batches."""
    started, num_images = time.perf_counter(), 0
    for images, _ in batches:
        num_images += len(images)
    return _figures(time.perf_counter() - started, num_images)


def _figures(seconds: float, num_images: int) -> Figures:
    return {"seconds": seconds, "images_per_second": num_images / seconds}


if __name__ == "__main__":
    main(tables)
