"""A value on its way to a setting: always a text, with the place where it was given."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from entrypoint.errors import SettingsError

Layer = Sequence[tuple[str, "Given"]]
"""What one source gives, by name; names that no setting has are among them."""

COMMAND_LINE = "the command line"


@dataclass(frozen=True)
class Given:
    """The text that somebody gave for a setting; for `set` a mapping of names to texts. `source`: where."""

    value: str | Mapping[str, str]
    source: str


def name_of(text: str) -> str:
    """The name of a setting as anybody may spell it: --train-url, train_url."""
    return text.lstrip("-").replace("-", "_")


def unquoted(text: str) -> str:
    """`text`, or what it says where it is one JSON string: platforms' clients quote hyperparameters so."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def pair(text: str, source: str) -> tuple[str, str]:
    """name=value -> (name, value)."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingsError(f"--set {text}: must be name=value (from {source})")
    return name.strip(), unquoted(value)


def pairs(text: str, source: str) -> dict[str, str]:
    """Several task settings in one text, for variables and hyperparameters: a JSON object, or name=value."""
    if not text.lstrip().startswith("{"):
        return dict([pair(text, source)])
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--set {text}: is no JSON object: {error} (from {source})") from error
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
