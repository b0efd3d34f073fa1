"""Azure Machine Learning: outputs are named in the command line of the job, so there is nothing to read."""

from collections.abc import Mapping
from pathlib import Path

from entrypoint.platforms.platform import Platform


def settings(environ: Mapping[str, str], root: Path = Path("/")) -> Platform | None:  # noqa: ARG001 - all are asked alike
    """Only that the process runs there."""
    return Platform(name="Azure ML") if "AZUREML_RUN_ID" in environ else None
