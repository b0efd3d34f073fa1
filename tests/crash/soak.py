"""`make soak`: one run among signals, new shards, second submissions and a server that restarts, for ten minutes.

    SOAK_SECONDS=600 python -m tests.crash.soak

At the end every example must have been trained exactly as often as planned, and a calm run that repeats the rounds
must end with the same network and optimizer, bit for bit. Then one long process must not grow.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch

from cloud.folder import OutputFolder
from tests.crash.counted import write_counted
from tests.crash.forks import Forks, forking
from tests.crash.ground import ARGUMENTS, Ground, Run, check_clean, check_whole, planned_times
from tests.e2e.submit import assert_same_training, attempts, newest
from tests.servers import S3Server, start_s3

NUM_COUNTED = 2**17
NUM_PER_SHARD = 512
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP)
EXPECTED = (0, 74, 75, 143, -signal.SIGKILL, -signal.SIGTERM)
"""Done; the server was away; another one holds the folder; stopped; killed; stopped before it could take signals."""

MEAN_PAUSE_SECONDS = 0.7
MAX_PAUSE_SECONDS = 3.0  # three times the timeout of a claim
CALM_SECONDS = 1800.0
SAY_SECONDS = 30.0
NUM_CHECKPOINTS = 250
NUM_WARM = 50
MAX_GROWTH_MIB = 20  # had each checkpoint of 6 MB left something of its size, it would be 600


class Soak:
    """The run, who may submit it at the same time, and what was done to it so far."""

    def __init__(self, run: Run, server: S3Server, forks: list[Forks], rng: random.Random) -> None:
        self.run, self.server, self.forks, self.rng = run, server, forks, rng
        self.codes: Counter[int] = Counter()
        self.signals: Counter[str] = Counter()
        self.num_shards = self.num_restarts = 0

    def append(self) -> None:
        """A shard arrives; every eighth brings a new label."""
        labels = "abc" + "".join(chr(ord("d") + number) for number in range(min(self.num_shards // 8, 20)))
        first = self.num_shards * NUM_PER_SHARD
        path = self.run.folder / "new.jsonl"
        write_counted(path, range(first, first + NUM_PER_SHARD), labels)
        data = self.run.ground.store(self.run.ground.data_url)
        data.put(f"{self.num_shards:05}.jsonl", path.read_bytes())
        self.num_shards += 1

    def disturb(self) -> None:
        """One thing happens."""
        self.collect()
        idle = [each for each in self.forks if each.pid is None]
        if len(idle) == len(self.forks) or (idle and self.rng.random() < 0.1):
            idle[0].start(self.run.submission())
            return
        what = self.rng.choices((self.signal, self.append, self.restart), (0.6, 0.37, 0.03))[0]
        what()

    def signal(self) -> None:
        """A random signal for a random one of those that run; who is stopped goes on some time later."""
        running = self.rng.choice([each for each in self.forks if each.pid is not None])
        number = self.rng.choice(SIGNALS)
        self.signals[number.name] += 1
        running.send(number)
        if number == signal.SIGSTOP:
            if self.rng.random() < 0.5:
                for other in self.forks:
                    if other.pid is None:
                        other.start(self.run.submission())
            time.sleep(self.rng.uniform(0.1, MAX_PAUSE_SECONDS))
            running.send(signal.SIGCONT)

    def restart(self) -> None:
        """The server is away for some seconds."""
        self.num_restarts += 1
        self.server.stop()
        time.sleep(self.rng.uniform(0.1, 4.0))
        self.server.start()

    def collect(self) -> None:
        """Take note of those that have ended, and look at what they left."""
        for each in self.forks:
            if each.pid is not None and each.is_over(0):
                self._ended(each.wait())

    def finish(self) -> None:
        """Let those that run come to their end, then submit until nothing is left to do."""
        for each in self.forks:
            if each.pid is not None:
                self._ended(each.wait(CALM_SECONDS))
        code = -1
        while code != 0:
            self.forks[0].start(self.run.submission())
            code = self.forks[0].wait(CALM_SECONDS)
            self._ended(code)

    def say(self, seconds: float) -> None:
        """How far it is."""
        records = OutputFolder(self.run.store).records()
        where = f"round {records[0].round}, step {records[0].global_step}" if records else "no checkpoint yet"
        print(
            f"{seconds:5.0f} s: {sum(self.codes.values())} submissions, {self.signals.total()} signals, "
            f"{self.num_restarts} restarts, {self.num_shards} shards; {where}",
            flush=True,
        )

    def _ended(self, code: int) -> None:
        self.codes[code] += 1
        assert code in EXPECTED, f"exit code {code}\n{self.run.said()}"
        check_whole(self.run.store)


def main() -> int:
    """The whole; AssertionError when anything is lost."""
    seconds, seed = float(os.environ.get("SOAK_SECONDS", "600")), random.randrange(10**6)
    print(f"seed {seed}; {seconds:.0f} s", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server shall end too
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        server = stack.enter_context(start_s3(folder / "server"))
        os.environ.update(server.env)
        forks = [stack.enter_context(forking()) for _ in range(2)]
        arguments = (*ARGUMENTS, "--set", f"num_counted={NUM_COUNTED}")
        ground = Ground(folder=folder, server=server, bucket=server.make_bucket("soak"), arguments=arguments)
        soak = Soak(Run(ground, "run"), server, forks, random.Random(seed))
        disturbed(soak, seconds)
        tell(soak)
        compare(soak)
    with tempfile.TemporaryDirectory(prefix="soak-") as path, forking() as one:
        flat_memory(Path(path), one)
    return 0


def disturbed(soak: Soak, seconds: float) -> None:
    """The run under all that may happen, for so long, and then to its end."""
    began = said = time.monotonic()
    soak.append()
    while time.monotonic() < began + seconds:
        soak.disturb()
        time.sleep(soak.rng.expovariate(1 / MEAN_PAUSE_SECONDS))
        if time.monotonic() > said + SAY_SECONDS:
            said = time.monotonic()
            soak.say(said - began)
    soak.finish()


def tell(soak: Soak) -> None:
    """What happened."""
    content, told = newest(soak.run.store), attempts(soak.run.store)
    names = {0: "done", 74: "store", 75: "held", 143: "stopped", -9: "killed", -15: "killed early"}
    codes = ", ".join(f"{num} {names[code]}" for code, num in sorted(soak.codes.items()))
    signals = ", ".join(f"{num} {name}" for name, num in sorted(soak.signals.items()))
    print(f"attempts     {len(told)}, of {sum(soak.codes.values())} submissions: {codes}")
    print(f"signals      {soak.signals.total()}: {signals}; the server restarted {soak.num_restarts} times")
    progress = content["progress"]
    print(f"trained      {progress['round']} rounds, {soak.num_shards} shards, {progress['num_examples']:,} examples")


def compare(soak: Soak) -> None:
    """Exact accounting; the same network as a calm run with the same rounds; nothing left behind."""
    run = soak.run
    times = newest(run.store)["net"]["times"]
    assert torch.equal(times, planned_times(run, NUM_COUNTED))
    assert int(times.sum()) == newest(run.store)["progress"]["num_examples"]
    assert (times[: soak.num_shards * NUM_PER_SHARD] > 0).all(), "every example of every shard was trained"
    print("accounting   every example was trained exactly as often as planned", flush=True)
    calm = Run(run.ground, "calm")
    soak.forks[0].start(calm.submission("--rounds_from", run.url))
    assert soak.forks[0].wait(CALM_SECONDS) == 0, calm.said()
    assert_same_training(run.store, calm.store)
    print("comparison   equal, bit for bit, to a calm run with the same rounds", flush=True)
    soak.append()
    soak.finish()
    check_clean(run, max_slots=len(soak.forks))
    print("leftovers    none")


def flat_memory(folder: Path, forks: Forks) -> None:
    """One process that writes many checkpoints of 6 MB does not grow."""
    more = ("--epochs", str(NUM_CHECKPOINTS), "--set", "num_ballast=1500000", "--save_every_seconds", "1000")
    ground = Ground(folder=folder, server=None, bucket="", arguments=(*ARGUMENTS, *more))
    write_counted(folder / "data" / "0.jsonl", range(64), "abc")
    run = Run(ground, "long")
    forks.start(run.submission())
    sizes: list[float] = []
    while not forks.is_over(0.05):
        if num_epochs(run) >= NUM_WARM:
            sizes.append(resident_bytes(forks.pid) / 2**20)
    assert forks.wait() == 0, run.said()
    first, second = median(sizes[: len(sizes) // 2]), median(sizes[len(sizes) // 2 :])
    print(f"memory       {first:.0f} MiB after checkpoint {NUM_WARM}, {second:.0f} MiB before {NUM_CHECKPOINTS}")
    assert second - first < MAX_GROWTH_MIB


def num_epochs(run: Run) -> int:
    """How many epochs its log tells of."""
    path = run.folder / "log"
    return path.read_text().count("\nepoch ") if path.exists() else 0


def resident_bytes(pid: int | None) -> int:
    """The memory of a process; 0 when it has ended."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
