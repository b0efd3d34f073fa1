"""`make fuzz SECONDS=60`: give every reader ever new bytes for so long; say how many, and what was found.

Needs atheris (Linux): `pip install '.[fuzz]'`. What made a reader fail stays in build/fuzz/READER/, one file each.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.readers import READERS, SEEDS

BUILD = Path("build/fuzz")
SLOWEST_SECONDS = 10
MAX_LENGTH = 8192
_STATUS = re.compile(r"^#(\d+)\s.*cov: (\d+)", re.MULTILINE)
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")


def main() -> int:
    """0 when no reader failed."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    names = sys.argv[2:] or list(READERS)
    print(f"{'reader':<10} {'inputs':>12} {'coverage':>10}   found")
    found = [_fuzz(name, seconds) for name in names]
    return int(any(found))


def _fuzz(name: str, seconds: int) -> bool:
    """Fuzz one reader and print its line; whether it failed at something."""
    folder = BUILD / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    command = [
        sys.executable, "-m", "tests.fuzz.one", name, f"-max_total_time={seconds}", f"-timeout={SLOWEST_SECONDS}",
        f"-max_len={MAX_LENGTH}", f"-artifact_prefix={folder}/", "-rss_limit_mb=2048", str(corpus),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:  # libFuzzer ends its process at once: nothing in it clears up
        done = subprocess.run(
            command, env=os.environ | {"TMPDIR": scratch}, capture_output=True, text=True, errors="replace", check=False
        )
    statuses, ended = _STATUS.findall(done.stderr), _DONE.search(done.stderr)
    num_inputs = int(ended[1]) if ended else int(statuses[-1][0]) if statuses else 0
    coverage = statuses[-1][1] if statuses else "?"
    print(
        f"{name:<10} {num_inputs:>12,} {coverage:>10}   {'nothing' if done.returncode == 0 else 'see below'}",
        flush=True,
    )
    if done.returncode:
        print(done.stdout + done.stderr[-3000:])
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
