"""What no store took is found again on this machine: whole, of this folder, and never for the price of a failure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud.folder import Chosen, OutputFolder
from cloud.held import HeldFolder
from cloud.open import open_store
from cloud.records import FileDigest, Record
from cloud.store import Store, Writer
from entrypoint.aside import Aside
from entrypoint.console import Console
from entrypoint.settings import JobConfig
from tests.cloud.folders import DONE, held
from tests.cloud.wrappers import flipped


@dataclass
class Ground:
    """An output folder whose first attempt left its newest state aside, with a ledger file in either place."""

    store: Store
    aside: Aside
    ledger: FileDigest
    saved: Record
    scratch: Path

    def take_back(self) -> Chosen | None:
        """What the next attempt continues from."""
        return self.aside.take_back(held(self.store), None, self.scratch, lambda: None, Console())

    @property
    def here(self) -> Path:
        """The ledger file aside."""
        return self.aside.path / self.ledger.key

    @property
    def there(self) -> Path:
        """The ledger file in the output folder."""
        return Path(self.store.url) / self.ledger.key


def save_aside(folder: HeldFolder, aside: Aside) -> tuple[FileDigest, Record]:
    def produce(writer: Writer) -> None:
        writer.write(b"state of a network")

    ledger = folder.write_ledger(1, [{"key": "a.tar"}])
    frozen = folder.keep_frozen("ab" * 32, produce, aside.open())
    fields = {"global_step": 5, "round": 1, "ledgers": (ledger,), "frozen": frozen, "metrics": {}, "settings": {}}
    return ledger, folder.save_aside(aside.open(), 0, 5, produce, **fields)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    store = open_store(str(tmp_path / "run"), writable=True)
    aside = Aside(JobConfig(train_url=store.url, cache_dir=tmp_path / "cache"))
    folder = held(store)
    ledger, saved = save_aside(folder, aside)
    folder.claim.finish(DONE)
    (scratch := tmp_path / "scratch").mkdir()
    return Ground(store, aside, ledger, saved, scratch)


def check_continued(ground: Ground) -> None:
    taken = ground.take_back()
    assert taken is not None and (taken.record.name, dict(taken.lost)) == ("ckpt_0_5-a2", {})
    assert not ground.aside.path.exists()
    again = OutputFolder(ground.store).choose(lambda: None)
    assert again is not None and (again.record, dict(again.lost)) == (taken.record, {})


def flip(path: Path) -> None:
    path.write_bytes(flipped(path.read_bytes()))


@pytest.mark.parametrize(("where", "harm"), [("here", Path.unlink), ("here", flip), ("there", Path.unlink)])
def test_a_ledger_file_is_taken_from_where_it_is_whole(
    ground: Ground, where: str, harm: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    harm(getattr(ground, where))
    check_continued(ground)
    assert capsys.readouterr().err == ""


def test_what_is_damaged_is_passed_over_with_a_warning_and_stays(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    ground.here.unlink()
    ground.there.unlink()
    assert ground.take_back() is None
    said = capsys.readouterr().err
    assert said.startswith(f"perdure: warning: passed over what is saved in {ground.aside.path}: ")
    assert f"{ground.ledger.key}: no such object; remove that folder" in said
    path = ground.aside.path / ground.saved.object.key
    flip(path)
    assert ground.take_back() is None
    assert f"{path.name}: digest of chunk 1 differs: damaged; remove" in capsys.readouterr().err
    assert path.exists()


def test_what_a_kill_left_of_it_goes_without_a_word(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    (ground.aside.path / ground.saved.place.record_key).unlink()
    assert ground.take_back() is None
    assert capsys.readouterr().err == ""
    assert not ground.aside.path.exists()


def test_it_is_not_taken_for_another_folder(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    for entry in list(ground.store.list()):
        ground.store.delete(entry.key)
    assert ground.take_back() is None
    assert "ckpt_0_5-a1 was saved for a folder that is gone" in capsys.readouterr().err


@pytest.mark.parametrize("last", ["x" * 1000, "ü" * 300, "a" * 99 + "ü", "\udcff"])
def test_a_key_may_be_longer_than_the_name_of_a_folder(tmp_path: Path, last: str) -> None:
    asides = [Aside(JobConfig(train_url=f"s3://bucket/{last}{end}", cache_dir=tmp_path)) for end in "ab"]
    assert asides[0].path != asides[1].path
    for aside in asides:
        aside.open().put("ckpt_1-a1.pth", b"whole")
        assert (aside.path / "ckpt_1-a1.pth").read_bytes() == b"whole"
