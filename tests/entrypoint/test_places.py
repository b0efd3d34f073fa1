"""The local folders of a job: of this user alone, whoever else uses the machine."""

import os
import tempfile
from pathlib import Path

import pytest

from entrypoint.errors import SettingsError
from entrypoint.places import cache_directory
from entrypoint.settings import JobConfig

CONFIG = JobConfig(data_url="./data", train_url="./run", task="images")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the folder of this user is called, in a temporary folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"perdure-cache-{os.getuid()}"


def test_each_user_has_a_cache_of_his_own(own: Path) -> None:
    assert cache_directory(CONFIG) == cache_directory(CONFIG) == own
    assert own.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_another_user_made_or_leads_to_is_refused(own: Path, tmp_path: Path) -> None:
    own.symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="is no folder of this user; name another one with --cache_dir"):
        cache_directory(CONFIG)
    if os.getuid() != 0:
        pytest.skip("giving a folder to somebody else needs root")
    own.unlink()
    own.mkdir()
    os.chown(own, 65534, -1)
    with pytest.raises(SettingsError, match="is no folder of this user"):
        cache_directory(CONFIG)
