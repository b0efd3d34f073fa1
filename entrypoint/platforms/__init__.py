"""The clouds that start the container, one small file each: their files and variables -> settings.

Each module has `settings(environ, root)`: None where the process does not run there. `root` is the file system's.
"""

from collections.abc import Mapping
from pathlib import Path

from entrypoint.platforms import azureml, modelarts, sagemaker, vertex
from entrypoint.platforms.platform import Platform

__all__ = ["Platform", "detect", "failure_file"]

_MODULES = (modelarts, sagemaker, vertex, azureml)


def detect(environ: Mapping[str, str], root: Path = Path("/")) -> Platform | None:
    """The platform that this process runs on; SettingsError where what it left cannot be read."""
    found = (module.settings(environ, root) for module in _MODULES)
    return next((platform for platform in found if platform is not None), None)


def failure_file(root: Path = Path("/")) -> Path | None:
    """Where the platform looks for the reason of a failure, also when its settings could not be read."""
    return sagemaker.failure_file(root)
