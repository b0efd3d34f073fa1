"""Temporary folders: private, gone at the end, and at the latest when the next process needs one."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cloud.scratch import PREFIX, scratch_directory


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(temporary: Path) -> list[str]:
    return sorted(path.name for path in temporary.iterdir())


def test_a_folder_is_private_and_gone_at_the_end(temporary: Path) -> None:
    with pytest.raises(KeyError), scratch_directory() as path:
        (path / "below").mkdir()
        assert (path.parent, path.stat().st_mode & 0o777) == (temporary, 0o700)
        raise KeyError
    assert left(temporary) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(temporary: Path) -> None:
    code = (
        "import os, sys, tempfile; from cloud.scratch import scratch_directory\n"
        "with scratch_directory() as path:\n"
        "    (path / 'fetched.pth').write_bytes(b'1')\n"
        "    if sys.argv[1] == 'killed': os._exit(137)\n"
        "    print(path.name, flush=True); sys.stdin.read()\n"
    )
    env = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "living"], stdin=pipe, stdout=pipe, text=True, env=env) as living:
        assert living.stdout is not None
        name = living.stdout.readline().strip()
        assert subprocess.run([*command, "killed"], check=False, env=env).returncode == 137
        assert len(left(temporary)) == 2
        with scratch_directory() as path:
            assert left(temporary) == sorted([name, path.name])
            assert (temporary / name / "fetched.pth").exists()
        living.communicate("")
    assert left(temporary) == []


def test_folders_of_others_and_links_are_left_alone(temporary: Path) -> None:
    (temporary / "perdure-cache-0").mkdir()
    (temporary / "elsewhere").mkdir()
    (temporary / f"{PREFIX}link").symlink_to(temporary / "elsewhere")
    (temporary / f"{PREFIX}file").write_text("a file")
    if os.getuid() == 0:
        (temporary / f"{PREFIX}theirs").mkdir()
        os.chown(temporary / f"{PREFIX}theirs", 65534, -1)
    before = left(temporary)
    with scratch_directory():
        pass
    assert left(temporary) == before
