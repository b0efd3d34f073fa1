"""What is wrong with what was given, a line per problem: which setting, what is wrong, where it came from."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from entrypoint.describe import shown, type_of
from entrypoint.errors import SettingsError
from entrypoint.settings import FIELDS, JobConfig
from entrypoint.values import Given

_MAX_EDITS = 2
_MESSAGES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "bool_parsing": "must be true or false",
    "finite_number": "must be a finite number",
    "byte_size": "must be a size, such as 500MB or 10GiB",
    "byte_size_unit": "must be a size, such as 500MB or 10GiB",
}


def checked(given: Mapping[str, Given], required: Collection[str]) -> JobConfig:
    """The settings, typed; SettingsError names all that cannot be used, or else those of `required` that lack."""
    try:
        config = JobConfig.model_validate({name: value.value for name, value in given.items()})
    except ValidationError as error:
        raise SettingsError("\n".join(_problem(item, given) for item in error.errors())) from error
    lacking = [name for name in required if name not in given]
    if lacking:
        raise SettingsError("\n".join(_lacks(name) for name in lacking))
    return config


def unknown(name: str, source: str, names: Iterable[str]) -> str:
    """What to say about a name that no setting has."""
    meant = near(name, names)
    hint = f"did you mean --{meant}?" if meant else "--help lists all"
    return f"--{name}: no such setting; {hint} (from {source})"


def near(name: str, names: Iterable[str]) -> str | None:
    """The name within two letters of `name` that is nearest to it, if any."""
    distance, meant = min((edits(name, known), known) for known in names)
    return meant if distance <= _MAX_EDITS else None


def edits(one: str, other: str) -> int:
    """How many letters must be put in, left out or replaced (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        above, row = row, [i]
        for j, its_letter in enumerate(other, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != its_letter)))
    return row[-1]


def _lacks(name: str) -> str:
    return f"--{name}: is required (or PERDURE_{name.upper()}, or {name} in the file of --config)"


def _problem(error: Any, given: Mapping[str, Given]) -> str:
    if not error["loc"]:  # a rule across settings names them itself
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    value = given[name]
    return f"--{name} {shown(value.value)}: {_message(error, name)} (from {value.source})"


def _message(error: Any, name: str) -> str:
    found = type_of(FIELDS[name])
    if error["type"] in _MESSAGES:
        limits = {key: shown(value) for key, value in error.get("ctx", {}).items()}
        return _MESSAGES[error["type"]].format(**limits)
    if error["type"] == "literal_error":
        return f"must be one of {', '.join(get_args(found))}"
    if error["type"].startswith("int"):
        return "must be a whole number"
    return "must be a number" if error["type"].startswith("float") else str(error["msg"])
