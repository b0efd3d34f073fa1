"""A whole submission over 100,000 known shards with ten new ones: claim, ledger, catalog, census, training, commit.

python -m tests.benchmarks.submission [--pairs N] [--tiny]

The store is the one of `catalog.py`, the network is tiny, and an epoch has 64 examples: what is measured is what the
number of shards costs. An index tells of the shards of round 1, without which each would be fetched once.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.catalog import DATA, ENV, NUM_NEW, serving
from tests.benchmarks.measured import Figures, program
from tests.benchmarks.pairs import Table
from tests.benchmarks.program import Options, main
from tests.benchmarks.start import TASK

JOB = [sys.executable, "-m", "entrypoint", "--data_url", DATA, *TASK, "--set", "width=50", "--threads", "1"]
SHORT = ("--epochs", "1", "--examples_per_epoch", "64", "--batch_size", "32", "--save_every", "epoch")
FIRST, GROWS, LISTS, NOTHING = (
    "round 1, all are new",
    "round 2, --shard_keys_grow",
    "round 2, all listed",
    "nothing new",
)


def tables(options: Options) -> Iterator[Table]:
    """Seconds and memory of whole processes."""
    num_known = options.size(100_000, 300)
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        with serving(num_known, num_known) as url:
            first = submission([], {**ENV, "AWS_ENDPOINT_URL": url}, run)
        with serving(num_known + NUM_NEW, num_known) as url:
            env = {**ENV, "AWS_ENDPOINT_URL": url}
            cases = {GROWS: partial(on_a_copy, run, ["--shard_keys_grow"], env), FIRST: lambda: first}
            if not options.tiny:
                done = Path(name) / "done"
                shutil.copytree(run, done)
                submission([], env, done)
                cases |= {LISTS: partial(on_a_copy, run, [], env), NOTHING: partial(on_a_copy, done, [], env)}
            yield Table(
                title=f"a whole submission, {num_known:,} known shards, {NUM_NEW} new",
                cases=cases,
                ours=GROWS,
                warms_up=False,
            )


def on_a_copy(run: Path, more: Sequence[str], env: Mapping[str, str]) -> Figures:
    """The next submission to a copy of an output folder."""
    with tempfile.TemporaryDirectory(dir=run.parent) as name:
        copy = Path(name) / "run"
        shutil.copytree(run, copy)
        return submission(more, env, copy)


def submission(more: Sequence[str], env: Mapping[str, str], run: Path) -> Figures:
    """One process, from its start to its end."""
    return program([*JOB, *SHORT, *more, "--train_url", str(run)], {**os.environ, **env})


if __name__ == "__main__":
    main(tables)
