"""The command line: argparse made from the settings, and the spellings that people and platforms use."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from entrypoint.commands import COMMANDS, DEFAULT
from entrypoint.describe import details, kind, type_of
from entrypoint.errors import SettingsError
from entrypoint.settings import FIELDS, GROUPS, group_of
from entrypoint.values import COMMAND_LINE, Given, Layer, name_of, pair, unquoted

_BOOLEANS = frozenset(name for name, field in FIELDS.items() if type_of(field) is bool)
_BOOLEAN_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})
_DASHED_VALUE = re.compile(r"-[A-Za-z]\w+")  # "-loss" of --best_metric, which argparse would take for an option
_EPILOG = """\
The word that ends a description is the setting's class: `run` is fixed for the
output folder, `round` is read when a round of new data starts, `now` at every
submission. A setting comes from the first that has it: the command line, a
variable (PERDURE_TRAIN_URL), the platform, the file of --config, the default."""

SWITCHES = frozenset({"help", "version", "show_settings"})


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line taken apart; `stray` are words that belong to nothing."""

    command: str
    values: Layer
    switches: frozenset[str]
    stray: Sequence[str]


def parse(argv: Sequence[str]) -> Arguments:
    """Take a command line apart; SettingsError where an option lacks its value."""
    command, words = (argv[0], argv[1:]) if argv and argv[0] in COMMANDS else (DEFAULT, argv)
    known, rest = _parser(command).parse_known_args(_normalised(_with_dashed_values(words)))
    unknown, stray = _sorted_out(rest)
    values = {name: _given(value) for name, value in vars(known).items() if name not in SWITCHES}
    return Arguments(
        command=command,
        values=[*values.items(), *((name, Given("", COMMAND_LINE)) for name in unknown)],
        switches=SWITCHES & vars(known).keys(),
        stray=[word for word in stray if word != DEFAULT],  # SageMaker appends a literal `train`
    )


def help_text(command: str) -> str:
    """What `--help` prints."""
    return _parser(command).format_help()


class _Parser(argparse.ArgumentParser):
    """argparse that neither leaves the process nor prints its usage for an error."""

    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ").replace("expected one argument", "needs a value")
        raise SettingsError(f"{text} (from {COMMAND_LINE})")


def _parser(command: str) -> _Parser:
    parser = _Parser(
        prog="perdure" if command == DEFAULT else f"perdure {command}",
        usage=f"perdure [{'|'.join(COMMANDS)}] [--name value ...]",
        description="\n".join(f"{name:<8} {one.help}" for name, one in COMMANDS.items()),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    _add_settings(parser, command)
    general = parser.add_argument_group("general")
    general.add_argument("--config", metavar="FILE", help="a YAML file of settings, name: value")
    general.add_argument("--show_settings", action="store_true", help="show every value and where it came from")
    general.add_argument("--version", action="store_true", help="show the version")
    general.add_argument("-h", "--help", action="store_true", help="show this text")
    return parser


def _add_settings(parser: _Parser, command: str) -> None:
    """Options that the command does not read are accepted, and left out of its help."""
    for group, title in GROUPS.items():
        section = parser.add_argument_group(title)
        for name in (name for name, field in FIELDS.items() if group_of(field) == group):
            text = f"{FIELDS[name].description} ({details(name)})".replace("%", "%%")
            section.add_argument(
                f"--{name}",
                dest=name,
                metavar=kind(name),
                action="append" if name == "set" else "store",
                help=text if name in COMMANDS[command].reads else argparse.SUPPRESS,
            )


def _with_dashed_values(words: Sequence[str]) -> list[str]:
    """--best_metric -loss -> --best_metric=-loss."""
    joined: list[str] = []
    for word in words:
        last = joined[-1] if joined else ""
        takes_value = last.startswith("--") and name_of(last) in FIELDS and not _is_boolean(last)
        if takes_value and _DASHED_VALUE.fullmatch(word):
            joined[-1] = f"{last}={word}"
        else:
            joined.append(word)
    return joined


def _normalised(words: Sequence[str]) -> list[str]:
    """One spelling: --train-url -> --train_url, --deterministic [true] and --no-deterministic -> --deterministic=..."""
    normal: list[str] = []
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        name = name_of(name)
        if not word.startswith("--"):
            if not (i and _is_boolean(words[i - 1]) and word.lower() in _BOOLEAN_WORDS):
                normal.append(word)
        elif equals:
            normal.append(f"--{name}={value}")
        elif _is_boolean(word):
            following = words[i + 1] if i + 1 < len(words) else ""
            normal.append(f"--{name}={following if following.lower() in _BOOLEAN_WORDS else 'true'}")
        elif name.startswith("no_") and name.removeprefix("no_") in _BOOLEANS:
            normal.append(f"--{name.removeprefix('no_')}=false")
        else:
            normal.append(f"--{name}")
    return normal


def _is_boolean(word: str) -> bool:
    return word.startswith("--") and name_of(word) in _BOOLEANS


def _given(value: str | list[str]) -> Given:
    if isinstance(value, list):
        return Given(dict(pair(text, COMMAND_LINE) for text in value), COMMAND_LINE)
    return Given(unquoted(value), COMMAND_LINE)


def _sorted_out(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """(names of unknown options, stray words); a word after an unknown option is its value."""
    unknown = [name_of(word.partition("=")[0]) for word in rest if word.startswith("-")]
    stray = [
        word
        for i, word in enumerate(rest)
        if not word.startswith("-") and not (i and rest[i - 1].startswith("-") and "=" not in rest[i - 1])
    ]
    return unknown, stray
