"""Where the values of the settings come from: the only reader of the command line and of the environment.

The first that gives a setting wins: command line, PERDURE_* variables, platform, the YAML file of --config, default.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from cloud.urls import without_credentials
from entrypoint import platforms
from entrypoint.arguments import SWITCHES, Arguments, help_text, parse
from entrypoint.commands import COMMANDS, Command
from entrypoint.describe import table, type_of
from entrypoint.errors import SettingsError
from entrypoint.jobfile import read_jobfile
from entrypoint.platforms import Platform
from entrypoint.problems import checked, near, unknown
from entrypoint.settings import ADDRESS, FIELDS, JobConfig
from entrypoint.values import COMMAND_LINE, Given, Layer, pairs, unquoted

PREFIX = "PERDURE_"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_AWS_KEY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_AWS_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_BOTOCORE_ONLY = ("AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION")
_CONFIG = "config"
_NAMES = frozenset(FIELDS) | {_CONFIG}
# Kubernetes describes a Service called perdure in variables PERDURE_PORT, PERDURE_SERVICE_HOST, PERDURE_PORT_80_TCP...
_SERVICE_LINK = re.compile(r"PERDURE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """What a process was asked to do. `given`: what was given for a setting, not judged yet; no defaults."""

    command: Command
    given: Mapping[str, Given] = field(default_factory=dict)
    platform: Platform | None = None
    warnings: tuple[str, ...] = ()
    shows_settings: bool = False
    answer: str | None = None
    """The text that `--help` or `--version` asks for, instead of a job."""

    def config(self) -> JobConfig:
        """The settings, each of its type and within its bounds; SettingsError names all that are not."""
        return checked(self.given, self.command.required)

    def table(self) -> str:
        """Every setting with its value and where that came from, for `--show_settings`."""
        return table(self.given, self.command.required, _preferred(self.given))


def read(
    argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None, root: Path = Path("/")
) -> Invocation:
    """Collect what was given; SettingsError for names that no setting has, and for files that cannot be read."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    command = COMMANDS[arguments.command]
    if answer := _answer(arguments):
        return Invocation(command=command, answer=answer)
    environ = os.environ if environ is None else environ
    platform = platforms.detect(environ, root)
    found = _collect(arguments, environ, platform)
    return Invocation(
        command=command,
        given=found.given,
        platform=platform,
        warnings=(*found.warnings, *_sync_warnings(found.given, platform)),
        shows_settings="show_settings" in arguments.switches,
    )


def tell_libraries(config: JobConfig) -> None:
    """What they take from the environment alone: cuBLAS is deterministic where its work space is fixed there."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def aws_key(region: str | None, environ: Mapping[str, str] | None = None) -> str | None:
    """The access key in the variables, where they hold all that obstore needs: nobody has to look any further."""
    environ = os.environ if environ is None else environ
    lacks_region = not region and not any(environ.get(name) for name in _AWS_REGIONS)
    is_empty = environ.get("AWS_SESSION_TOKEN") == ""  # none to botocore, and to obstore one that the server refuses
    if lacks_region or is_empty or any(name in environ for name in _BOTOCORE_ONLY):
        return None
    key, secret = (environ.get(name) for name in _AWS_KEY)
    return key if secret else None


def is_amazon(endpoint_url: str | None, environ: Mapping[str, str] | None = None) -> bool:
    """Whether s3:// leads to Amazon: nothing names another endpoint."""
    environ = os.environ if environ is None else environ
    return not endpoint_url and not any(name.upper() in ENDPOINTS for name in environ)


def _preferred(given: Mapping[str, Given]) -> Mapping[str, Given]:
    """The defaults of the task itself, which only its module knows, and which may go by its own settings."""
    if "task" not in given:
        return {}
    from trainer.task import make_task

    task, sets = str(given["task"].value), given["set"].value if "set" in given else {}
    preferred = make_task(task, sets if isinstance(sets, Mapping) else {}).preferred()
    return {name: Given(value, f"default of task {task}") for name, value in preferred.items()}


def _answer(arguments: Arguments) -> str | None:
    if "help" in arguments.switches:
        return help_text(arguments.command)
    return f"perdure {_version()}" if "version" in arguments.switches else None


def _version() -> str:
    try:
        return metadata.version("perdure")
    except metadata.PackageNotFoundError:
        return "(run from its source, not installed)"


@dataclass
class _Found:
    """What the sources gave so far, the first one winning."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, layer: Layer, *, tolerant: bool = False) -> None:
        """With `tolerant`, names that nothing has are only mentioned, unless they look like a slip of the pen."""
        for name, value in layer:
            if name in _NAMES:
                self._take(name, value)
            elif tolerant and near(name, _NAMES | SWITCHES) is None:
                self.warnings.append(f"--{name}: ignored, no such setting (from {value.source})")
            else:
                self.problems.append(unknown(name, value.source, _NAMES | SWITCHES))

    def _take(self, name: str, value: Given) -> None:
        if value.value == "" and _is_text(name):  # as templates write it for "none"
            return
        if name == "set":
            self.given[name] = _joined(self.given.get(name), value)
        else:
            self.given.setdefault(name, value)


def _collect(arguments: Arguments, environ: Mapping[str, str], platform: Platform | None) -> _Found:
    managed = platform is not None
    found = _Found()
    _add_stray(found, arguments.stray, tolerant=managed)
    found.add(arguments.values, tolerant=managed)
    found.add(_variables(environ))
    if platform is not None:
        found.add(_hyperparameters(platform), tolerant=True)
        found.add([(name, Given(value, platform.name)) for name, value in platform.values.items()])
    jobfile = found.given.pop(_CONFIG, None)
    if jobfile is not None:
        found.add(read_jobfile(Path(str(jobfile.value))))
    found.problems += _wrong_endpoints(environ, found.given)
    if found.problems:
        raise SettingsError("\n".join(found.problems))
    return found


def _add_stray(found: _Found, words: Sequence[str], *, tolerant: bool) -> None:
    for word in words:
        text = f"{word!r}: neither a command ({', '.join(COMMANDS)}) nor an option's value (from {COMMAND_LINE})"
        (found.warnings if tolerant else found.problems).append(text)


def _variables(environ: Mapping[str, str]) -> Layer:
    """PERDURE_TRAIN_URL and the like; an empty variable is the same as none."""
    ours = (key for key in environ if key.startswith(PREFIX) and environ[key] and not _SERVICE_LINK.fullmatch(key))
    return [(key.removeprefix(PREFIX).lower(), Given(unquoted(environ[key]), key)) for key in sorted(ours)]


def _wrong_endpoints(environ: Mapping[str, str], given: Mapping[str, Given]) -> list[str]:
    """Of the variables that obstore itself reads where --endpoint_url does not say it."""
    if "endpoint_url" in given or not any(str(one.value).lower().startswith("s3://") for one in given.values()):
        return []
    wrong = [(name, environ[name]) for name in ENDPOINTS if name in environ and not ADDRESS.fullmatch(environ[name])]
    advice = "must be an address such as https://host:9000, or not set"
    return [f"{name} {without_credentials(value)!r}: {advice}" for name, value in wrong]


def _hyperparameters(platform: Platform) -> Layer:
    source = f"{platform.name}'s hyperparameters"
    return [
        (name.replace("-", "_"), Given(unquoted(value), source)) for name, value in platform.hyperparameters.items()
    ]


def _sync_warnings(given: Mapping[str, Given], platform: Platform | None) -> list[str]:
    train_url = str(given["train_url"].value) if "train_url" in given else ""
    if platform is None or not platform.syncs_folders or not train_url or "://" in train_url:
        return []
    return [
        f"--train_url {train_url}: {platform.name} copies this folder to its bucket; "
        "only the platform keeps a second job away from it"
    ]


def _is_text(name: str) -> bool:
    return name == _CONFIG or type_of(FIELDS[name]) is str


def _joined(first: Given | None, then: Given) -> Given:
    """Task settings add up over the sources; of one that is given twice the first counts."""
    value = pairs(then.value, then.source) if isinstance(then.value, str) else dict(then.value)
    if first is None:
        return Given(value, then.source)
    assert isinstance(first.value, Mapping), "joined before"
    return Given(value | dict(first.value), f"{first.source}; {then.source}")
