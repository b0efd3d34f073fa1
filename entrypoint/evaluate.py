"""`perdure evaluate`: the scores of an exported model on shards, as a table and as JSON."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from cloud.cache import ShardCache
from cloud.open import join_url
from cloud.urls import without_credentials
from entrypoint.census import Census
from entrypoint.console import Console
from entrypoint.model import fetched_model, shown_url
from entrypoint.output import STANDARD, opened_output
from entrypoint.places import EVAL, cache_directory, open_data
from entrypoint.score_tables import score_tables
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.census import usable_indices
from trainer.errors import DataError
from trainer.evaluate import plain_scores, predictions
from trainer.exported import Model
from trainer.ledger import Shard
from trainer.opened import OpenShards


def run(config: JobConfig, stop: Stop, console: Console) -> int:
    """Score the model on the evaluation shards where there are some, else on all. Returns the exit code."""
    if config.output == STANDARD:
        console = Console(config.log_format, out=sys.stderr)  # stdout is for the scores
    with fetched_model(config, stop) as model:
        config = config.model_copy(update={"task": config.task or str(model.config["task"])})
    data = open_data(config)
    cache = ShardCache(data, cache_directory(config), config.cache_bytes, check=stop.check)
    try:
        opened = OpenShards(model.task, cache, config.memory_bytes)
        shards = _shards(Census(config, data, cache, opened, console, stop))
        place = _place(config, shards)
        console.line(
            "evaluate", f"{len(shards)} shard{'s'[: len(shards) > 1]} of {place} with {shown_url(config.model)}"
        )
        said = [item for shard in shards for item in _predictions(model, opened, shard, config.batch_size, stop)]
    finally:
        cache.close()
    scores = {**plain_scores(model.task.scores(said, model.vocabulary)), "num_examples": len(said)}
    _tell(config, console, {"model": shown_url(config.model), "data_url": place, "scores": scores})
    return 0


def _shards(census: Census) -> list[Shard]:
    """What there is below eval/, or else everywhere."""
    entries = list(census.listing(under=EVAL)) or list(census.listing())
    if not entries:
        raise DataError(census.no_shards())
    shards = [shard for shard in census.take(entries) if shard.split != "other"]
    if not any(shard.num_examples for shard in shards):
        raise DataError(census.no_shards())
    return shards


def _place(config: JobConfig, shards: Sequence[Shard]) -> str:
    """Where the shards are, as messages show it."""
    if all(shard.key.startswith(EVAL) for shard in shards):
        return without_credentials(config.eval_url or join_url(config.data_url, EVAL))
    return without_credentials(config.data_url)


def _predictions(model: Model, opened: OpenShards, shard: Shard, batch_size: int, stop: Stop) -> Iterator[Any]:
    with opened.open(shard) as examples:
        chosen = [int(index) for index in usable_indices(shard)]
        try:
            for start in range(0, len(chosen), batch_size):
                stop.check()
                batch = [examples[index] for index in chosen[start : start + batch_size]]
                yield from predictions(model.task, model.net, model.vocabulary, batch, batch_size)
        except DataError as error:
            raise DataError(f"{shard.key}: {error}") from error


def _tell(config: JobConfig, console: Console, found: dict[str, Any]) -> None:
    content = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if config.output != STANDARD:
        for line in score_tables(found["scores"]):
            console.print(line)
    if config.output:
        with opened_output(config) as output:
            output.write(content.encode("utf-8", "surrogatepass"))
