"""`python -m tests.readme`: write the parts of README.md that come from the code; `tests/test_readme.py` compares them.

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from entrypoint.describe import bounds, default_of, kind
from entrypoint.settings import FIELDS, GROUPS, class_of, group_of, unit_of
from trainer.task import TaskSettings
from trainer.tasks.images import ImageSettings
from trainer.tasks.nlu.task import NluSettings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
EXAMPLES = "tests/examples"
FOLDERS = ("entrypoint", "trainer", "cloud", "tests")
OTHER_FILES = {
    "perdure.py": "the public names: all that a user imports",
    "Makefile": "demo, test, crash-test, soak, bench, lint, constraints: a virtual environment and what runs in it",
    "pyproject.toml": "the package, its dependencies and extras, the settings of ruff, mypy and pytest",
    "constraints.txt": "the exact versions that `make` installs",
    ".ci/run": "what CI runs: `make test`",
    "README.md": "this page",
    "CHANGELOG.md": "what changed, by version",
    "LICENSE": "Apache-2.0",
}
_FENCE = "```"


def main() -> None:
    """Bring README.md up to date."""
    README.write_text(current(README.read_text()))


def current(text: str) -> str:
    """The text with every generated part as the code is now."""
    for name, make in PARTS.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"README.md has no part {name!r}")
        text = f"{before}{begin}{make()}{end}{after}"
    return text


def settings_table() -> str:
    """Every setting, by group, in the order of --help."""
    parts = []
    for group, title in GROUPS.items():
        names = [name for name, field in FIELDS.items() if group_of(field) == group]
        parts.append(f"\n**{title.capitalize()}**\n\n{_table(_setting_rows(names))}")
    return "".join(parts) + "\n"


def images_table() -> str:
    """The settings of task `images`."""
    return f"\n{_task_table(ImageSettings)}\n"


def nlu_table() -> str:
    """The settings of task `nlu`."""
    return f"\n{_task_table(NluSettings)}\n"


def tree() -> str:
    """Every source file with the first line of its docstring; of the tests those that others are made from."""
    lines = list(OTHER_FILES.items())
    for folder in FOLDERS:
        lines.append(("", ""))
        lines += [(path.relative_to(ROOT).as_posix(), about) for path, about in _sources(ROOT / folder)]
    width = max(len(name) for name, _ in lines)
    return f"{_FENCE}\n" + "".join(f"{name:<{width}}  {about}".rstrip() + "\n" for name, about in lines) + f"{_FENCE}\n"


def example(name: str) -> Callable[[], str]:
    """A file below tests/examples, as a block of code."""
    return lambda: f"{_FENCE}python\n{(ROOT / EXAMPLES / name).read_text()}{_FENCE}\n"


def tree_files() -> list[str]:
    """The source files that the tree names, except those of the root."""
    return [path.relative_to(ROOT).as_posix() for folder in FOLDERS for path, _ in _sources(ROOT / folder)]


def _sources(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*.py"), key=lambda path: (path.parent, path)):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        mirrors_source = path.name.startswith("test_") and path.parent != ROOT / "tests" / "examples"
        if docstring and not mirrors_source and "node_modules" not in path.parts:
            yield path, docstring.partition("\n")[0].rstrip(".")


def _setting_rows(names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    yield "setting", "value", "default", "class", "meaning"
    for name in names:
        field = FIELDS[name]
        limits = ", ".join(bounds(field))
        unit = "" if unit_of(field) == "bytes" else unit_of(field)
        default = f"{default_of(field)} {unit if default_of(field) else ''}".strip()
        value = f"`{kind(name)}`" + (f", {limits}" if limits else "")
        yield f"`--{name}`", value, default, class_of(field), str(field.description)


def _task_table(settings: type[TaskSettings]) -> str:
    rows = [("setting", "value", "default", "meaning")]
    for name, field in settings.model_fields.items():
        rows.append((f"`{name}`", _value(field), default_of(field), str(field.description)))
    return _table(rows)


def _value(field: FieldInfo) -> str:
    """What the setting may be: its choices, or its type and bounds."""
    choices = getattr(field.annotation, "__args__", ())
    if choices:
        return "`" + "|".join(map(str, choices)) + "`"
    letter = {"int": "N", "float": "X", "bool": "true|false", "ByteSize": "SIZE"}.get(
        getattr(field.annotation, "__name__", ""), "TEXT"
    )
    return ", ".join([f"`{letter}`", *bounds(field)])


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head, *body = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    rule = " | ".join("---" for _ in head.split(" | "))
    return "".join(f"| {row} |\n" for row in (head, rule, *body))


PARTS: Mapping[str, Callable[[], str]] = {
    "iris_task": example("iris_task.py"),
    "own_loop": example("own_loop.py"),
    "settings": settings_table,
    "images": images_table,
    "nlu": nlu_table,
    "tree": tree,
}


if __name__ == "__main__":
    main()
