"""All benchmarks, or some: `python -m tests.benchmarks [NAME ...] [--pairs N] [--tiny] [--more] [--out FOLDER]`.

Each is a program of its own, `python -m tests.benchmarks.NAME`, and leaves NAME.json and NAME.svg in build/bench/.
"""

import argparse
import subprocess
import sys

from tests.benchmarks.program import add_options

PROGRAMS = (
    "step", "trainers", "images", "images_s3", "place", "catalog", "submission", "start", "resume",
    "blocked", "publish", "restore", "memory", "gpu",
)  # fmt: skip


def main() -> int:
    """Run the programs one after the other; the number of those that failed."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(PROGRAMS)}")
    add_options(parser)
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(PROGRAMS):
        parser.error(f"no such table: {', '.join(sorted(unknown))}; there are: {', '.join(PROGRAMS)}")
    options = [f"--pairs={asked.pairs}", f"--out={asked.out}"]
    options += [f"--{name}" for name in ("tiny", "more") if getattr(asked, name)]
    names = asked.names or PROGRAMS
    return sum(subprocess.call([sys.executable, "-m", f"tests.benchmarks.{name}", *options]) != 0 for name in names)


if __name__ == "__main__":
    sys.exit(main())
