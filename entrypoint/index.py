"""`perdure index`: the census of all shards, written beside them, so that a job need not read them to know them."""

import json

from cloud.cache import ShardCache
from cloud.catalog import INDEX_KEY
from cloud.open import open_store
from entrypoint.census import Census
from entrypoint.console import Console
from entrypoint.places import cache_directory, options
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.errors import DataError
from trainer.opened import OpenShards
from trainer.task import make_task

FIELDS = ("key", "size", "sha256", "num_read", "num_examples", "labels", "bad", "keys")


def run(config: JobConfig, stop: Stop, console: Console) -> int:
    """Write `_index.jsonl` under data_url, one line per shard, evaluation shards included. Returns the exit code."""
    task = make_task(config.task, config.sets)
    task.max_shard_bytes = int(config.max_shard_bytes)
    data = open_store(config.data_url, options(config))  # not writable yet: that would make a folder of a wrong name
    cache = ShardCache(data, cache_directory(config), config.cache_bytes, check=stop.check)
    try:
        census = Census(config, data, cache, OpenShards(task, cache, 0), console, stop)
        entries = list(census.listing())
        if not entries:
            raise DataError(census.no_shards())
        target = open_store(config.data_url, options(config), writable=True)
        shards = census.take(entries, use_index=False)
    finally:
        cache.close()
    lines = [json.dumps({name: getattr(shard, name) for name in FIELDS}, ensure_ascii=False) for shard in shards]
    target.put(INDEX_KEY, "".join(line + "\n" for line in lines).encode())
    examples = sum(shard.num_examples for shard in shards)
    console.line("index", f"{len(shards)} shards, {examples} examples: {INDEX_KEY} in {config.data_url}")
    return 0
