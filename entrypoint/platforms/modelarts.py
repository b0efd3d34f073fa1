"""Huawei ModelArts: local folders that it fills before the job and uploads while it runs.

Channels come as arguments (`access_method` parameter, the default) or as variables of the same name (env).
"""

import os
from collections.abc import Mapping
from pathlib import Path

from entrypoint.platforms.platform import Platform

_MARKS = ("MA_JOB_DIR", "MA_CURRENT_INSTANCE_NAME")
_CHANNELS = ("train_url", "data_url", "eval_url")


def settings(environ: Mapping[str, str], root: Path = Path("/")) -> Platform | None:
    """Channels given as variables, the region's object store, the machine's fast disk."""
    if not any(mark in environ for mark in _MARKS):
        return None
    values = {name: environ[name] for name in _CHANNELS if environ.get(name)}
    if environ.get("S3_ENDPOINT"):
        values["endpoint_url"] = environ["S3_ENDPOINT"]
    if os.access(root / "cache", os.W_OK):
        values["cache_dir"] = str(root / "cache" / "perdure")
    return Platform(name="ModelArts", values=values, syncs_folders=True)
