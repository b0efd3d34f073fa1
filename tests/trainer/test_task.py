"""How a task is found and gets its settings, and what is said where it cannot."""

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from trainer.errors import SettingError
from trainer.task import TaskSettings, find_task, make_task, parse_settings
from trainer.tasks.images import Images, ImageSettings

WHOLE = """
from neighbour import SUFFIXES
from trainer.task import Task

class Mine(Task):
    suffixes = SUFFIXES
    def read(self, path): ...
    def build(self, vocabulary): ...
    def collate(self, examples, vocabulary, seeds): ...
    def loss(self, net, batch): ...
    def predict(self, net, batch): ...
    def scores(self, predictions, vocabulary): ...

class Half(Task):
    suffixes = (".txt",)
    def read(self, path): ...
"""


class Settings(TaskSettings):
    size: int = Field(3, ge=1)
    rate: float = 0.1
    fast: bool = False
    name: str = "x"
    levels: Literal[1, 3] = 1
    sizes: tuple[int, ...] = ()
    limit: int | None = 5


def why(name: str) -> str:
    with pytest.raises(SettingError) as error:
        find_task(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def why_not(**sets: str) -> str:
    with pytest.raises(SettingError) as error:
        parse_settings(Settings, sets)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestFinding:
    def test_by_name(self) -> None:
        assert find_task("images") is Images

    def test_by_module(self) -> None:
        assert find_task("trainer.tasks.images:Images") is Images

    def test_by_file_which_may_import_its_neighbours(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own.py").write_text(WHOLE)
        (tmp_path / "neighbour.py").write_text("SUFFIXES = ('.txt',)")
        monkeypatch.syspath_prepend(tmp_path.parent)  # undoes what finding adds to sys.path
        monkeypatch.chdir(tmp_path)
        assert find_task("./own.py:Mine").suffixes == (".txt",)
        assert find_task(f"{tmp_path}/own.py:Mine").__name__ == "Mine"
        assert "lacks build, collate, loss, predict, scores" in why("own.py:Half")
        there = "no subclass of Task is called Other there; there are: Mine, Half"
        assert why("own.py:Other") == f"--task own.py:Other: {there}"

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        assert why("image").startswith("--task image: unknown, did you mean images? the tasks are images, ")
        assert why("speech") == "--task speech: unknown; the tasks are images, nlu, ./file.py:Class, module:Class"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("./none.py:Mine", "no such file"),
            ("no_such_module:Mine", "No module named 'no_such_module'"),
            (".relative:Mine", "relative import"),
            ("json:Mine", "there; there are: none"),
            ("trainer.task:Task", "there; there are: none"),
            ("", "the tasks are images"),
            ("./own.py", "./file.py:Class"),
        ],
    )
    def test_what_is_not_there(self, name: str, reason: str) -> None:
        assert reason in why(name)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("x = 1\ny = zz\n", "broken.py line 2: NameError: name 'zz' is not defined"),
            ("import no_such_module", "broken.py line 1: ModuleNotFoundError: No module named 'no_such_module'"),
            ("x = (1\n", "'(' was never closed (broken.py, line 1)"),
            ("{}['x']", "broken.py line 1: KeyError: 'x'"),
            ("\0", "null bytes"),
        ],
    )
    def test_a_file_that_cannot_be_imported_says_where(self, text: str, reason: str, tmp_path: Path) -> None:
        (tmp_path / "broken.py").write_text(text)
        assert reason in why(f"{tmp_path}/broken.py:Mine")


class TestSettings:
    def test_a_task_gets_its_own(self) -> None:
        settings = make_task("images", {"width": "8", "augment": '"shift"', "channels": "1"}).settings
        assert settings == ImageSettings(width=8, augment="shift", channels=1)

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("size", "7", 7),
            ("size", '"7"', 7),
            ("rate", "1e-3", 1e-3),
            ("rate", "2", 2.0),
            ("fast", "true", True),
            ("fast", "True", True),
            ("fast", "0", False),
            ("name", "shift", "shift"),
            ("name", '"shift"', "shift"),
            ("name", "7", "7"),
            ("name", "null", "null"),
            ("levels", "3", 3),
            ("levels", '"3"', 3),
            ("sizes", "[1, 2]", (1, 2)),
            ("limit", "null", None),
        ],
    )
    def test_texts_become_what_the_setting_is(self, name: str, text: str, value: object) -> None:
        found = getattr(parse_settings(Settings, {name: text}), name)
        assert (type(found), found) == (type(value), value)

    @given(st.builds(Settings, size=st.integers(1), rate=st.floats(allow_nan=False), fast=st.booleans()))
    def test_what_is_printed_can_be_given(self, settings: Settings) -> None:
        texts = {name: str(getattr(settings, name)) for name in ("size", "rate", "fast", "name", "levels", "limit")}
        assert parse_settings(Settings, texts) == settings

    @pytest.mark.parametrize(
        ("sets", "reason"),
        [
            ({"size": "0"}, "--set size=0: must be greater than or equal to 1"),
            ({"size": "big"}, "--set size=big: must be a valid integer"),
            ({"size": "1.5"}, "--set size=1.5: must be a valid integer"),
            ({"levels": "2"}, "--set levels=2: must be 1 or 3"),
            ({"sizes": "[1, 2"}, "--set sizes=[1, 2: must be a valid tuple"),
            ({"siez": "4"}, "--set siez=4: unknown, did you mean size? the task's settings are size, rate, "),
            ({"colour": "4"}, "--set colour=4: unknown; the task's settings are size, rate, "),
        ],
    )
    def test_what_does_not_fit(self, sets: dict[str, str], reason: str) -> None:
        assert why_not(**sets).startswith(reason)

    def test_settings_that_do_not_fit_each_other(self) -> None:
        with pytest.raises(SettingError, match=r"^--set image_size=4: image_size must be at least 8 for 3 stages$"):
            make_task("images", {"image_size": "4"})

    def test_a_task_without_settings(self) -> None:
        with pytest.raises(SettingError, match=r"unknown; the task's settings are none$"):
            parse_settings(TaskSettings, {"x": "1"})
