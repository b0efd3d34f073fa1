"""What a platform tells a job."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A managed platform: one that may add arguments and hyperparameters of its own.

    `values` are texts by setting, `hyperparameters` what the user gave by way of the platform; these come first.
    With `syncs_folders` a local output folder is copied to a bucket by the platform, not by the job.
    """

    name: str
    values: Mapping[str, str] = field(default_factory=dict)
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    syncs_folders: bool = False
