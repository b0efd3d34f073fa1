"""Images out of tar shards on S3 as batches of tensors: cold, with nothing on this machine, and a second pass, warm.

python -m tests.benchmarks.images_s3 [--pairs N] [--tiny]

All give float32 batches of 64 of images of 32 x 32 pixels (PNG) in a shuffled order, by the same conversion. Peers:
webdataset, which reads through s5cmd and keeps the shards in its cache folder, and litdata, which reads chunks of
its own (made beforehand: it reads no tars) with the same encoded images. The server is SeaweedFS on this machine.
"""

import io
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from shutil import which
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from cloud.cache import ShardCache
from cloud.open import open_store
from tests.benchmarks.images import (
    BATCH_SIZE,
    collated,
    counted,
    our_loader,
    pass_seconds,
    webdataset_batches,
    write_shards,
)
from tests.benchmarks.measured import Case, Figures, Unavailable
from tests.benchmarks.pairs import Goal, Table
from tests.benchmarks.program import Options, main
from tests.benchmarks.start import s3_unless_tiny
from tests.servers import S3Server
from trainer.webdataset import read_groups

SIZE = 32
ONE_CORE, ALL_CORES = "perdure, one core", "perdure, all cores"


def tables(options: Options) -> Iterator[Table]:
    """Seconds and images per second of the first pass, and of the second in the same process."""
    with tempfile.TemporaryDirectory() as name, s3_unless_tiny(Path(name) / "s3", options) as server:
        tars, chunks = Path(name) / "tars", Path(name) / "chunks"
        write_shards(tars, *options.size((10, 2000), (2, 70)), "png", SIZE)
        chunks.mkdir()
        with suppress(Unavailable):  # then its cases are not there either, and say so
            options.child(write_chunks, str(tars), str(chunks))()
        places = [_uploaded(server, folder) for folder in (tars, chunks)]
        env = server.env if server else {}
        if not options.tiny:  # when tiny the second table, whose cases make a first pass too, is enough
            yield _table("first pass, cold", 0.5, _cases(options, str(tars), *places, False, env))
        yield _table("second pass, warm", 0.05, _cases(options, str(tars), *places, True, env))


def _table(title: str, most: float, cases: Mapping[str, Case]) -> Table:
    """With the goals of shards on this machine: those of one core against no workers, of all against two."""
    goals = [
        Goal(says=f"{1 / most:.0f} times {peer}", most=most, case=ALL_CORES if "2" in peer else ONE_CORE, against=peer)
        for peer in cases
        if peer not in (ONE_CORE, ALL_CORES)
    ]
    return Table(title=f"images from tar shards on S3, {title}", cases=cases, ours=ALL_CORES, goals=goals)


def _cases(
    options: Options, tars: str, tars_url: str, chunks_url: str, warm: bool, env: Mapping[str, str]
) -> dict[str, Case]:
    ours = {
        case: options.child(our_pass, tars, tars_url, warm, num_cores, env=env)
        for case, num_cores in ((ONE_CORE, 1), (ALL_CORES, 0))
    }
    names = [path.name for path in sorted(Path(tars).glob("*.tar"))]
    peers = {}
    for said, num_workers in options.size((("no workers", 0), ("2 workers", 2)), (("no workers", 0),)):
        peers[f"webdataset, {said}"] = options.child(webdataset_pass, tars_url, names, warm, num_workers, env=env)
        peers[f"litdata, {said}"] = options.child(litdata_pass, chunks_url, warm, num_workers, env=env)
    return ours | peers


def _uploaded(server: S3Server | None, folder: Path) -> str:
    """Where the files of a folder are to be read from."""
    if server is None:
        return str(folder)
    url: str = server.make_bucket(folder.name)
    for path in sorted(folder.iterdir()):
        server.client.upload_file(str(path), folder.name, path.name)
    return url


def our_pass(folder: str, url: str, warm: bool, num_cores: int) -> Figures:
    """The loader over the cache that a job has."""
    torch.set_num_threads(1)
    alone = patch("trainer.cores.num_cores", lambda: num_cores) if num_cores else nullcontext()
    with alone, tempfile.TemporaryDirectory() as name:
        cache = ShardCache(open_store(url), Path(name), 2**31)
        loader = our_loader(Path(folder), SIZE, cache, 2**31)
        batches = loader.batches(0)
        seconds = [pass_seconds(batches, loader, 1) for _ in range(1 + warm)][-1]
        cache.close()
        return {"seconds": seconds, "images_per_second": loader.goal.pass_examples / seconds}


def webdataset_pass(url: str, names: Sequence[str], warm: bool, num_workers: int) -> Figures:
    """Its pipeline; a fresh cache folder is what makes it cold."""
    torch.set_num_threads(1)
    s5cmd = which("s5cmd", path=Path(sys.executable).parent) or which("s5cmd")
    if url.startswith("s3:") and s5cmd is None:
        raise Unavailable("not installed: s5cmd")
    cat = f"pipe:{s5cmd} --endpoint-url {os.environ.get('AWS_ENDPOINT_URL')} cat {url.rstrip('/')}"
    urls = [f"{cat}/{name}" if url.startswith("s3:") else f"{url}/{name}" for name in names]
    with tempfile.TemporaryDirectory() as cache_dir:
        batches = webdataset_batches(urls, "png", num_workers, cache_dir)
        return [counted(batches) for _ in range(1 + warm)][-1]


def litdata_pass(url: str, warm: bool, num_workers: int) -> Figures:
    """Its streaming loader, shuffled; a fresh cache folder is what makes it cold."""
    import litdata
    from litdata.streaming import downloader

    torch.set_num_threads(1)
    over_http = patch.dict(downloader._OBSTORE_CLIENT_OPTIONS, allow_http=True)  # for which it has no setting
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]} if url.startswith("s3:") else {}
    with over_http, tempfile.TemporaryDirectory() as cache_dir:
        where = {"cache_dir": cache_dir, "storage_options": options} if options else {}
        dataset = litdata.StreamingDataset(url, shuffle=True, **where)
        batches: Any = litdata.StreamingDataLoader(
            dataset, batch_size=BATCH_SIZE, num_workers=num_workers, collate_fn=_decoded
        )
        return [counted(batches) for _ in range(1 + warm)][-1]


def _decoded(items: Sequence[Mapping[str, Any]]) -> Any:
    pixels = (np.asarray(Image.open(io.BytesIO(item["image"])).convert("RGB")) for item in items)
    return collated(zip(pixels, (item["label"] for item in items), strict=True))


def write_chunks(tars: str, chunks: str) -> None:
    """The same images as litdata wants them."""
    import litdata

    paths = [str(path) for path in sorted(Path(tars).glob("*.tar"))]
    litdata.optimize(_items, paths, chunks, chunk_bytes="8MB", num_workers=1, verbose=False)


def _items(path: str) -> Iterator[dict[str, Any]]:
    for group in read_groups(Path(path)):
        yield {"image": bytes(group.members["png"]), "label": int(bytes(group.members["cls"]))}


if __name__ == "__main__":
    main(tables)
