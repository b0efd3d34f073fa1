"""Amazon SageMaker training: JSON files under /opt/ml/input/config, data and checkpoints in local folders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrypoint.errors import SettingsError
from entrypoint.platforms.platform import Platform

_CONFIG = Path("opt/ml/input/config")
_DATA = Path("opt/ml/input/data")
_CHECKPOINTS = Path("opt/ml/checkpoints")
_DATA_CHANNELS = ("data", "training")
_EVAL_CHANNEL = "eval"


def settings(environ: Mapping[str, str], root: Path = Path("/")) -> Platform | None:
    """Hyperparameters, the channels' folders, and the folder that SageMaker keeps in step with a bucket."""
    if "TRAINING_JOB_ARN" not in environ and not (root / _CONFIG).is_dir():
        return None
    return Platform(
        name="SageMaker",
        values=_channels(root) | _checkpoints(root),
        hyperparameters={name: _text(value) for name, value in _read(root / _CONFIG / "hyperparameters.json").items()},
        syncs_folders=True,
    )


def failure_file(root: Path = Path("/")) -> Path | None:
    """SageMaker shows the first 1024 characters of this file as the job's FailureReason."""
    return root / "opt/ml/output/failure" if (root / _CONFIG).is_dir() else None


def _channels(root: Path) -> dict[str, str]:
    channels = _read(root / _CONFIG / "inputdataconfig.json")
    others = [name for name in channels if name != _EVAL_CHANNEL]
    data = next((name for name in _DATA_CHANNELS if name in channels), others[0] if len(others) == 1 else None)
    values = {"data_url": data, "eval_url": _EVAL_CHANNEL if _EVAL_CHANNEL in channels else None}
    return {setting: _folder(root, name, channels[name]) for setting, name in values.items() if name is not None}


def _folder(root: Path, channel: str, description: Any) -> str:
    if isinstance(description, dict) and description.get("TrainingInputMode") == "Pipe":
        raise SettingsError(f"SageMaker channel {channel!r}: cannot be read in Pipe mode; use File or FastFile")
    return str(root / _DATA / channel)


def _checkpoints(root: Path) -> dict[str, str]:
    local_path = _read(root / _CONFIG / "checkpointconfig.json").get("LocalPath")
    if isinstance(local_path, str) and local_path:
        return {"train_url": local_path}
    return {"train_url": str(root / _CHECKPOINTS)} if (root / _CHECKPOINTS).is_dir() else {}


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in the file; {} where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"SageMaker's {path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"SageMaker's {path}: holds no JSON object")
    return content


def _text(value: Any) -> str:
    """Hyperparameters are documented as strings; what is none is taken as the JSON it is."""
    return value if isinstance(value, str) else json.dumps(value)
