"""Any file of an output folder damaged in any way, at any place: what remains is continued, to the same end.

The damage is one file with a bit flipped, cut short, removed, copied under another name, or swapped for another run's.
"""

import io
import json
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.audit import Audit
from cloud.folder import OutputFolder
from cloud.open import open_store
from cloud.transfer import no_check
from cloud.views import whole_model
from entrypoint.__main__ import main
from tests.e2e.inside import POINTS, write_points
from trainer.contents import first_difference

KINDS = ("flip", "cut", "remove", "double", "swap")
MORE = (
    "--keep_last", "3", "--claim_timeout_seconds", "1", "--batch_size", "8", "--schedule", "constant",
    "--warmup_fraction", "0",
)  # fmt: skip
SEALED = (".pth", ".json", ".zst", ".safetensors")
"""Ends of the files of which every byte is under a digest; the others decide nothing."""


@dataclass(frozen=True)
class Damage:
    """What is done to one file; `place` in [0, 1) is where in it, `number` which other name or bit."""

    path: str
    kind: str
    place: float
    number: int

    def do(self, run: Path, other: Path) -> None:
        path = run / self.path
        data = path.read_bytes()
        at = int(self.place * len(data))
        if self.kind == "flip":
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << self.number % 8)]) + data[at + 1 :])
        elif self.kind == "cut":
            path.write_bytes(data[:at])
        elif self.kind == "remove":
            path.unlink()
        elif self.kind == "double":
            shutil.copyfile(path, path.with_name(self.other_name()))
        else:
            shutil.copyfile(other / self.path, path)

    def other_name(self) -> str:
        """The name of the file with its first number another one: a later checkpoint, attempt, round."""
        name = Path(self.path).name
        digits = next((word for word in name.replace(".", "-").replace("_", "-").split("-") if word.isdigit()), "")
        if not digits:
            return f"{name} (copy)"
        return name.replace(digits, f"{int(digits) + 1 + self.number % 3:0{len(digits)}d}", 1)


@dataclass(frozen=True)
class Folders:
    """A run of three attempts and two rounds, the same with another seed, and what more epochs make of the first."""

    data: Path
    run: Path
    other: Path
    end: dict[str, Any]

    @property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.run)) for path in self.run.rglob("*") if path.is_file())


def submit(data: Path, run: Path, *more: str) -> tuple[int, str]:
    """Exit code and stderr of one submission in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["--data_url", str(data), "--train_url", str(run), *POINTS, *MORE, *more], root=data / "none")
    finally:
        torch.set_flush_denormal(False)  # Hypothesis draws on
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code, err.getvalue()


def newest(run: Path) -> dict[str, Any]:
    folder = OutputFolder(open_store(str(run)))
    chosen = folder.choose(no_check)
    assert chosen is not None and not chosen.lost
    content = torch.load(chosen.file, weights_only=True)
    assert isinstance(content, dict)
    return content


def three_attempts(data: Path, run: Path, *more: str) -> None:
    """Two rounds, the second one of a shard that came later; in the end one more epoch is asked for."""
    if (data / "c.jsonl").exists():
        (data / "c.jsonl").unlink()
    assert submit(data, run, *more)[0] == 0
    write_points(data / "c.jsonl", 40, 60)
    assert submit(data, run, *more)[0] == 0
    assert submit(data, run, "--finetune_epochs", "2", *more)[0] == 0


LAST = ("--finetune_epochs", "3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
    place = tmp_path_factory.mktemp("corruption")
    before, tempfile.tempdir = tempfile.tempdir, str(place)
    data, run, other = place / "data", place / "run", place / "other"
    write_points(data / "a.jsonl", 0, 20)
    write_points(data / "b.jsonl", 20, 40)
    write_points(data / "eval/e.jsonl", 90, 99)
    three_attempts(data, other, "--seed", "1")
    three_attempts(data, run)
    end = shutil.copytree(run, place / "end")
    assert submit(data, end, *LAST)[0] == 0
    yield Folders(data, run, other, newest(end))
    tempfile.tempdir = before


def damages(folders: Folders, seed: int, num: int) -> list[Damage]:
    """Every file with every kind of damage, then at random."""
    drawn = random.Random(seed)
    every = [(path, kind) for path in folders.files for kind in KINDS]
    picked = [every[i % len(every)] for i in range(num)] if num > len(every) else drawn.sample(every, num)
    return [Damage(path, kind, drawn.random(), drawn.randrange(99)) for path, kind in picked]


def test_a_checkpoint_of_another_run_is_passed_over(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folders.run, run)
    name = max(path.stem for path in run.glob("ckpt_*-a3.pth"))
    for suffix in (".pth", ".json"):
        shutil.copyfile(folders.other / f"{name}{suffix}", run / f"{name}{suffix}")
    code, err = submit(folders.data, run, *LAST)
    assert code == 0, err
    assert f"passed over {name}: of another run than the checkpoints before it: --seed: found 1" in err
    end = newest(run)
    assert not [part for part in ("net", "optimizer") if first_difference(folders.end[part], end[part], part)]
    code, err = submit(folders.data, run, *LAST, "--seed", "5")
    assert code == 78 and "--seed: found 0" in err, "the settings do not fit: no reason to go back"


@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_damaged_is_found_and_the_newest_that_is_whole_is_chosen(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damage = Damage(
        data.draw(st.sampled_from(folders.files), "file"),
        data.draw(st.sampled_from(KINDS), "kind"),
        data.draw(st.floats(0, 1, exclude_max=True), "place"),
        data.draw(st.integers(0, 99), "number"),
    )
    run = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(folders.run, run)
    damage.do(run, folders.other)
    changed = all_files(run) ^ all_files(folders.run)
    changed |= {path for path in all_files(run) & all_files(folders.run) if differs(run, folders.run, path)}
    store = open_store(str(run))
    chosen = OutputFolder(store).choose(no_check)
    assert chosen is not None
    assert isinstance(chosen.file, Path)
    assert chosen.file.read_bytes() == (folders.run / chosen.file.name).read_bytes(), "nothing damaged is continued"
    assert {file.key for file in chosen.lost} <= changed
    names = {path.rpartition(".")[0] if path.startswith("ckpt") else path for path in changed}
    found = {one.key: one for one in Audit(store, no_check).run()}
    bad = {key.replace("model/config.json", "model/") for key, one in found.items() if one.is_bad}
    if damage.kind == "swap" and damage.path.endswith(".json"):
        names |= {path for path in folders.files if path.startswith("ledger/")}  # of which another run's record tells
    assert bad <= {"model/" if name.startswith("model/") else name for name in names}, "only what is damaged is named"
    must = damage.kind in ("flip", "cut", "remove") and damage.path.endswith(SEALED) and changed
    assert bad or not must or is_only_told(damage, found) or same_json(run, folders.run, damage.path)
    shutil.rmtree(run.parent)


def is_only_told(damage: Damage, found: dict[str, Any]) -> bool:
    """A file that is not there is no damage where nothing says that it was: what is left of it is told."""
    if damage.kind != "remove":
        return False
    left = damage.path.replace(".json", ".pth") if damage.path.startswith("ckpt") else damage.path
    return (left in found and found[left].state in ("left over", "gone")) or damage.path.startswith("attempts/")


def same_json(run: Path, whole: Path, path: str) -> bool:
    """One kind of white space in model/config.json may pass for another."""
    if path != "model/config.json" or not (run / path).exists():
        return False
    return bool(json.loads((run / path).read_bytes()) == json.loads((whole / path).read_bytes()))


def all_files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def differs(one: Path, other: Path, path: str) -> bool:
    return (one / path).read_bytes() != (other / path).read_bytes()


def test_a_submission_after_any_damage_ends_as_if_nothing_had_been(folders: Folders, tmp_path: Path) -> None:
    """The rest of round 2 is trained from what remains, to the same bits, and the model is that of its end."""
    for number, damage in enumerate(damages(folders, seed=4, num=40)):
        run = tmp_path / str(number)
        shutil.copytree(folders.run, run)
        damage.do(run, folders.other)
        code, err = submit(folders.data, run, *LAST)
        assert code == 0, f"{damage}: {err}"
        end = newest(run)
        for part in ("net", "optimizer"):
            assert not first_difference(folders.end[part], end[part], part), damage
        assert whole_model(open_store(str(run)), no_check)["global_step"] == end["global_step"], damage
        shutil.rmtree(run)
