"""README.md says what is: its generated parts are current, its commands run, its tables agree with the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.records import AttemptFile, Record
from entrypoint.exits import ExitCode
from entrypoint.report import PHASES
from tests import demo, readme

TEXT = readme.README.read_text(encoding="utf-8")
LIMIT_SECONDS = 120
TESTED = re.compile(r"<!-- tested -->\n```(sh|python)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((#?)([^)]+)\)")


def section(title: str) -> str:
    """The text below a heading of the second or third level, up to the next one."""
    return re.split(r"\n###? ", TEXT.partition(f"# {title}\n")[2])[0]


def first_column(text: str) -> list[str]:
    """The first cells of all tables in the text, without their headings."""
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return [cell for cell, rule in zip(rows, [*rows[1:], ""], strict=True) if cell != "---" and rule != "---"]


def test_generated_parts_are_current() -> None:
    assert readme.current(TEXT) == TEXT, "run: python -m tests.readme"


def test_every_source_file_is_in_the_tree() -> None:
    named = readme.tree_files()
    for package in ("entrypoint", "trainer", "cloud"):
        for path in (readme.ROOT / package).rglob("*.py"):
            name = path.relative_to(readme.ROOT).as_posix()
            assert name in named or not path.read_text().strip(), f"{name} needs a docstring"
    assert all((readme.ROOT / name).exists() for name in readme.OTHER_FILES)


def test_every_command_that_can_run_here_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demo.make_shards()
    (tmp_path / "tests").symlink_to(readme.ROOT / "tests")
    blocks = TESTED.findall(TEXT)
    assert len(blocks) == TEXT.count("<!-- tested -->") >= 7
    for language, code in blocks:
        command = ["bash", "-ec", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        assert "perdure: " not in done.stderr, done.stderr


def environment() -> dict[str, str]:
    """As in the activated environment, with one thread for each process."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    return {**plain, "PATH": path, "PYTHONPATH": str(readme.ROOT), "OMP_NUM_THREADS": "1"}


def test_exit_codes() -> None:
    codes = {str(code.value): code.name for code in ExitCode}
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", section("Exit codes"), re.MULTILINE)
    assert dict(rows) == codes
    retried = [cell for cell in first_column(section("When to submit again")) if cell.isdigit()]
    assert retried == list(codes)


def test_every_field_of_the_public_formats() -> None:
    formats = section("Output folder")
    _, _, rest = formats.partition("**`ckpt_*.json`**")
    record, _, rest = rest.partition("**`attempts/NNNNNN.json`**")
    attempt, _, rest = rest.partition("**`metrics/NNNNNN.jsonl`**")
    assert fields(record) == [*Record.model_fields, "digest"]
    assert sorted(fields(attempt)) == sorted([*AttemptFile.model_fields, "digest"])
    phases = attempt.partition("Phases in `seconds`:")[2]
    assert tuple(name for name in re.findall(r"`(\w+)`", phases) if name in PHASES) == PHASES


def fields(text: str) -> list[str]:
    """The names that the first cells of a table hold."""
    return [name for cell in first_column(text) for name in re.findall(r"`(\w+)`", cell)]


def test_links_lead_somewhere() -> None:
    headings = [line.lstrip("# ").lower().replace(" ", "-") for line in TEXT.splitlines() if line.startswith("#")]
    for anchor, target in LINK.findall(TEXT):
        assert target in headings if anchor else (readme.ROOT / target).exists(), target


def test_few_words_before_they_are_explained() -> None:
    """A newcomer needs three words until `Output folder`; program output and the generated table are what they are."""
    before = TEXT.partition("## Output folder")[0].partition("## Three words")[2]
    prose = re.sub(r"```.*?```|<!-- begin (\w+) -->.*?<!-- end \1 -->", "", before, flags=re.DOTALL)
    for word in ("claim", "census", "ledger", "attempt", "record"):
        assert not re.search(rf"\b{word}", prose), word
