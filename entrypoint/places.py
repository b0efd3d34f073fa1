"""The stores that a job's URLs name."""

import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cloud.mounted import Mounted
from cloud.open import StoreOptions, is_same, join_url, open_store, overlap
from cloud.store import Store
from cloud.transfer import file_errors
from cloud.urls import without_credentials
from entrypoint.config import aws_key, is_amazon
from entrypoint.errors import SettingsError
from entrypoint.settings import JobConfig

EVAL = "eval/"


@dataclass(frozen=True)
class Places:
    """`output` is written; `data` is read, and shows the evaluation shards under "eval/" wherever they lie."""

    output: Store
    data: Store


def open_places(config: JobConfig) -> Places:
    """The stores of train_url, data_url and eval_url; SettingsError when one would contain the other."""
    for name, url in (("data_url", config.data_url), ("eval_url", config.eval_url)):
        if url and overlap(config.train_url, url):
            train_url, other = without_credentials(config.train_url), without_credentials(url)
            raise SettingsError(
                f"--train_url {train_url} and --{name} {other}: one contains the other, so that a run's files "
                "would be taken for data; use two folders"
            )
    _check_eval_url(config)
    return Places(open_output(config), open_data(config))


def open_output(config: JobConfig) -> Store:
    """The store of train_url."""
    return open_store(config.train_url, options(config), writable=True)


def _check_eval_url(config: JobConfig) -> None:
    """SettingsError where evaluation shards would be trained on, because they lie among the others."""
    data, evaluation = config.data_url, config.eval_url
    if evaluation and overlap(data, evaluation) and not is_same(evaluation, join_url(data, EVAL)):
        raise SettingsError(
            f"--eval_url {evaluation} and --data_url {data}: one contains the other, so that evaluation shards "
            "would be trained on; use two folders, or name the inner one eval/"
        )


def open_data(config: JobConfig) -> Store:
    """The store of the data shards, with the evaluation shards under "eval/"."""
    data = open_store(config.data_url, options(config))
    return Mounted(data, EVAL, open_store(config.eval_url, options(config))) if config.eval_url else data


def options(config: JobConfig) -> StoreOptions:
    """What the settings say of every store."""
    return StoreOptions(
        endpoint_url=config.endpoint_url,
        region=config.region,
        access_key=aws_key(config.region),
        is_amazon=is_amazon(config.endpoint_url),
    )


def cache_directory(config: JobConfig) -> Path:
    """Where fetched shards are kept, also from one attempt to the next on the same machine."""
    if config.cache_dir is not None and config.cache_dir.exists() and not config.cache_dir.is_dir():
        raise SettingsError(f"--cache_dir {config.cache_dir}: is no folder; name another one")
    return config.cache_dir or _own_folder()


def _own_folder() -> Path:
    """A folder for this user alone, whom another one must neither shut out nor hand files."""
    path = Path(tempfile.gettempdir()) / f"perdure-cache-{os.getuid()}"
    with file_errors(path), suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SettingsError(f"{path}: is no folder of this user; name another one with --cache_dir")
    return path
