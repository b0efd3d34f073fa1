"""Google Vertex AI custom training: variables that name places below the job's base output directory."""

from collections.abc import Mapping
from pathlib import Path

from entrypoint.platforms.platform import Platform

_MARKS = ("AIP_CHECKPOINT_DIR", "AIP_MODEL_DIR", "CLOUD_ML_JOB_ID")


def settings(environ: Mapping[str, str], root: Path = Path("/")) -> Platform | None:  # noqa: ARG001 - all are asked alike
    """AIP_CHECKPOINT_DIR, a gs:// URL, is the output folder."""
    if not any(mark in environ for mark in _MARKS):
        return None
    checkpoints = environ.get("AIP_CHECKPOINT_DIR")
    return Platform(name="Vertex AI", values={"train_url": checkpoints} if checkpoints else {})
