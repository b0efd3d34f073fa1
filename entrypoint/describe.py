"""How settings are shown: in `--help`, in `--show_settings`, in errors."""

from collections.abc import Collection, Mapping
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from cloud.urls import without_credentials
from entrypoint.settings import FIELDS, class_of, group_of, unit_of
from entrypoint.values import Given

_KINDS: Mapping[Any, str] = {bool: "true|false", ByteSize: "SIZE", int: "N", float: "X", dict: "NAME=VALUE"}
_BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}


def type_of(field: FieldInfo) -> Any:
    """The field's type without `| None`."""
    types = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    return types[0] if len(types) == 1 and NoneType in get_args(field.annotation) else field.annotation


def kind(name: str) -> str:
    """What stands for the value in `--help`."""
    found = type_of(FIELDS[name])
    if get_origin(found) is Literal:
        return "|".join(get_args(found))
    if found is str:
        return "URL" if "url" in name or name.endswith("_from") or group_of(FIELDS[name]) == "use" else "TEXT"
    return _KINDS.get(get_origin(found) or found, "PATH")


def details(name: str) -> str:
    """Default, bounds, unit and class, e.g. "default 60 seconds, above 0; now"."""
    field = FIELDS[name]
    unit = unit_of(field)
    default = default_of(field)
    parts = [f"default {default} {'' if unit == 'bytes' else unit}".rstrip()] if default else []
    parts += bounds(field)
    return "; ".join(filter(None, [", ".join(parts), class_of(field)]))


def default_of(field: FieldInfo) -> str:
    """The default as one would write it; "" for none."""
    if type_of(field) is ByteSize and isinstance(field.default, int):
        return ByteSize(field.default).human_readable()
    return shown(field.default)


def bounds(field: FieldInfo) -> list[str]:
    """The bounds in words, e.g. ["at least 1", "at most 255"]."""
    found = ((_BOUNDS[type(item)], item) for item in field.metadata if type(item) in _BOUNDS)
    return [f"{words} {shown(getattr(item, attribute))}" for (attribute, words), item in found]


def shown(value: object) -> str:
    """A value as one would write it, without passwords, shortened where it is endless."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return " ".join(f"{name}={member}" for name, member in value.items())
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = without_credentials(text)
    return text if len(text) <= 200 else f"{text[:197]}..."


def table(given: Mapping[str, Given], required: Collection[str], preferred: Mapping[str, Given]) -> str:
    """A line per setting: name, value, class, and where the value came from; `preferred` go before the defaults."""
    rows = [("setting", "value", "class", "from")]
    for name, field in FIELDS.items():
        value = (
            given.get(name)
            or preferred.get(name)
            or Given(default_of(field), "required, not given" if name in required else "default")
        )
        rows.append((name, shown(value.value), class_of(field), value.source))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:<{widths[1]}}  {when:<{widths[2]}}  {source}"
        for name, value, when, source in rows
    )
