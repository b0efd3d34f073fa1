"""The exported model that --model names: fetched from where it is, verified and loaded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from cloud.errors import Damaged
from cloud.open import open_store
from cloud.scratch import scratch_directory
from cloud.store import Store
from cloud.transfer import Digester, fetch
from cloud.urls import without_credentials
from entrypoint.errors import SettingsError
from entrypoint.places import cache_directory, options
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer import exported
from trainer.device import pick_device
from trainer.errors import CheckpointError
from trainer.exported import CONFIG, MAX_CONFIG_BYTES, Model

PLACES = ("", "model/")
NUM_TRIES = 3
PAUSE_SECONDS = 2.0


@contextmanager
def fetched_model(config: JobConfig, stop: Stop) -> Iterator[Model]:
    """The model in `--model`: an output folder, or the `model/` in it.

    SettingsError when there is none, Damaged or CheckpointError when it is not what was written.
    """
    store = open_store(config.model, options(config))
    with scratch_directory() as scratch:
        folder = _fetched(store, _place(store, config), scratch, stop)
        try:
            kept = cache_directory(config) / "task"
            model = exported.load(folder, config.task, config.sets, pick_device(config), kept)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(folder), shown_url(config.model))) from error
    yield model


def shown_url(url: str) -> str:
    """A URL as messages show it."""
    return without_credentials(url).rstrip("/")


def _place(store: Store, config: JobConfig) -> str:
    """What the keys of the model begin with."""
    for place in PLACES:
        try:
            store.stat(place + CONFIG)
        except FileNotFoundError:
            continue
        return place
    raise SettingsError(
        f"--model {shown_url(config.model)}: no exported model there, nor in model/ below it; name the output folder "
        "of a job, which exports its model at the end of a round"
    )


def _fetched(store: Store, place: str, scratch: Path, stop: Stop) -> Path:
    """A local folder with the files. A job may be replacing them: what does not fit together is fetched again."""
    for left in reversed(range(NUM_TRIES)):
        stop.check()
        folder = scratch / str(left)
        folder.mkdir()
        try:
            _fetch(store, place, folder, stop)
            return folder
        except Damaged:
            if not left:
                raise
        time.sleep(PAUSE_SECONDS)
    raise AssertionError("the last try returns or raises")


def _config(store: Store, place: str) -> bytes:
    try:
        return store.read(place + CONFIG, 0, MAX_CONFIG_BYTES)
    except FileNotFoundError as error:  # it was there a moment ago
        raise Damaged(f"{shown_url(store.url)}: {place}{CONFIG} is gone; export it again") from error


def _fetch(store: Store, place: str, folder: Path, stop: Stop) -> None:
    """config.json, and the file that it names; Damaged when that is another one by now."""
    content = _config(store, place)
    (folder / CONFIG).write_bytes(content)
    try:
        weights: Any = from_json(content)["weights"]
        name, size, expected = str(weights["file"]), int(weights["size"]), weights["sha256"]
    except (ValueError, TypeError, LookupError):
        return  # loading says what is wrong with it
    digester = Digester()
    try:
        fetch(store, place + name, folder / Path(name).name, size=size, digester=digester, check=stop.check)
    except FileNotFoundError as error:
        raise Damaged(f"{shown_url(store.url)}: {name} is missing, which {CONFIG} names; export it again") from error
    if digester.sha256() != expected:
        raise Damaged(
            f"{shown_url(store.url)}: {name} has SHA-256 {digester.sha256()}, expected {expected}; export it again"
        )
