"""The YAML file of `--config`: one mapping of settings to single values, read as texts and never as objects.

As texts, because a setting knows its own type better than YAML does: `no` is a word, 1e-3 a number, 2024-01-01 a name.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from entrypoint.errors import SettingsError
from entrypoint.values import Given, name_of

_MAX_BYTES = 2**20
_MAX_DEPTH = 4
_NULL_TAG = "tag:yaml.org,2002:null"
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp"))


def read_jobfile(path: Path) -> list[tuple[str, Given]]:
    """The settings in the file, by name, each with its line; SettingsError where it is no such file."""
    node = _root(path)
    if node is None or node.tag == _NULL_TAG:  # empty, or nothing but `---`
        return []
    found: dict[str, Given] = {}
    for key, value_node, line in _members(node, path):
        name = name_of(key)
        source = f"{path}, line {line}"
        if name in found:
            raise SettingsError(f"--{name}: is given twice (from {source})")
        value = _value(name, value_node, path)
        if value is not None:
            found[name] = Given(value, source)
    return list(found.items())


def _root(path: Path) -> yaml.Node | None:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_BYTES)
        _check_events(text, path)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise SettingsError(f"--config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(_yaml_problem(path, error)) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"--config {path}: is no YAML text: {error}") from error


def _check_events(text: str, path: Path) -> None:
    """Refuse what makes small files endless: aliases to aliases unfold to gigabytes, deep nests take hours to read."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias or depth > _MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            problem = "aliases (*name) are" if is_alias else f"more than {_MAX_DEPTH} levels are"
            raise SettingsError(f"{path}, line {line}: {problem} not allowed")


def _members(node: yaml.Node, path: Path) -> Iterator[tuple[str, yaml.Node, int]]:
    """(name, value, line) of each member of a mapping of names."""
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise SettingsError(f"{path}, line {line}: must be `name: value` lines")
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise SettingsError(f"{path}, line {line}: must be `name: value` lines")
        yield key.value, value, line


def _value(name: str, node: yaml.Node, path: Path) -> str | dict[str, str] | None:
    if name == "set" and isinstance(node, yaml.MappingNode):
        members = ((member, _scalar(f"set {member}", value, path)) for member, value, _ in _members(node, path))
        return {member: value for member, value in members if value is not None}
    return _scalar(name, node, path)


def _scalar(name: str, node: yaml.Node, path: Path) -> str | None:
    """The text of a single value; None for null, which is the same as not to give the setting."""
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _TAGS:
        raise SettingsError(f"--{name}: must be a single value (from {path}, line {node.start_mark.line + 1})")
    return None if node.tag == _NULL_TAG else str(node.value)


def _yaml_problem(path: Path, error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if mark is None:
        return f"--config {path}: is no YAML: {' '.join(str(error).split())}"
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else ""
    return f"{path}, line {mark.line + 1}: is no YAML: {problem}"
