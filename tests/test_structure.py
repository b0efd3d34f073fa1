"""The rules of the layout, read from the source itself."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import perdure

ROOT = Path(__file__).parents[1]
PACKAGES = ("entrypoint", "trainer", "cloud")
SOURCES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in [
        ROOT / "perdure.py",
        *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))),
    ]
}
MAIN = "entrypoint/__main__.py"


def _imports(name: str) -> set[str]:
    """Every module that the file imports anywhere in it, and every name it takes from one, with dots."""
    package = name.split("/")[:-1]
    found = set()
    for node in ast.walk(SOURCES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def _importers(files: str, *modules: str) -> list[str]:
    """`file: module` for every file below `files` that imports one of the modules, or something in it."""
    return [
        f"{name}: {imported}"
        for name in SOURCES
        if name.startswith(files)
        for imported in sorted(_imports(name))
        if any(f"{imported}.".startswith(f"{module}.") for module in modules)
    ]


def _uses(*dotted: str) -> set[str]:
    """The files in which one of these attributes of a module is used, or imported by its name."""
    return {
        name
        for name, tree in SOURCES.items()
        if _imports(name) & set(dotted)
        or any(ast.unparse(node) in dotted for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    }


def test_something_is_read() -> None:
    assert MAIN in SOURCES
    assert _importers("entrypoint/", "trainer", "cloud")


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        ("trainer/", ("cloud", "entrypoint", "perdure")),
        ("cloud/", ("trainer", "entrypoint", "perdure", "torch")),
        ("entrypoint/", ("perdure",)),
        ("trainer/loop.py", ("trainer.tasks",)),
    ],
)
def test_imports_go_one_way(files: str, modules: tuple[str, ...]) -> None:
    assert _importers(files, *modules) == []


def test_one_file_reads_environment_and_arguments() -> None:
    assert _uses("os.environ", "os.environb", "os.getenv", "os.getenvb", "sys.argv") == {"entrypoint/config.py"}


def test_one_file_exits() -> None:
    exits = _uses("sys.exit")
    exits |= {name for name, tree in SOURCES.items() if any(_raises_exit(node) for node in ast.walk(tree))}
    # A training loop of the user's own has no __main__ of ours: there `perdure.Run` ends the process.
    assert exits == {MAIN, "entrypoint/run.py"}


def test_no_broad_except_swallows() -> None:
    swallowing = [
        f"{name}:{handler.lineno}"
        for name, tree in SOURCES.items()
        if name != MAIN
        for handler in _broad_handlers(tree)
        if not _hands_on(handler)
    ]
    assert swallowing == []


def _raises_exit(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc).startswith("SystemExit")


def _broad_handlers(tree: ast.AST) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            names = {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)} if node.type else set()
            if node.type is None or names & {"Exception", "BaseException"}:
                yield node


def _hands_on(handler: ast.ExceptHandler) -> bool:
    """Whether the error is raised again, or given to somebody who will."""
    body = [node for statement in handler.body for node in ast.walk(statement)]
    given = any(isinstance(node, ast.Name) and node.id == handler.name for node in body)
    return given or any(isinstance(node, ast.Raise) for node in body)


def test_public_names_are_declared_and_explained() -> None:
    assert perdure.__all__ == sorted(perdure.__all__)
    assert [name for name in perdure.__all__ if not getattr(perdure, name).__doc__] == []
    assert sorted(name for name in vars(perdure) if name[0].isupper()) == perdure.__all__


def test_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
