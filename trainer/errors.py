"""What can go wrong in training, the user's faults apart from ours.

TrainerError
├── DataError           the data is bad: fix it
│   ├── BadExample      one example is (also a ValueError: a task's reader may raise either)
│   └── NotAShard       a whole file of another kind, which is passed over
├── CheckpointError     a checkpoint's content is bad
├── Incompatible        a whole checkpoint that does not fit the settings
├── SettingError        a setting that cannot be used, found out here
├── Incomparable        the network before a round cannot be judged on today's evaluation data
└── NonFinite           a loss or parameter became NaN or infinite
"""

from collections.abc import Sequence

MAX_SHOWN = 5


class TrainerError(Exception):
    """Base of this package's errors; its text is one line: what, where, what to do."""


class DataError(TrainerError):
    """The data is bad: an unreadable or empty shard, labels that do not fit."""


class BadExample(DataError, ValueError):
    """One example cannot be used. The text says where in its shard (line, member) and why."""


class NotAShard(DataError):
    """A file that is whole, has a shard's suffix, and is something else: it is named once and passed over."""


class CheckpointError(TrainerError):
    """What should be a checkpoint cannot be read as one."""


class Incompatible(TrainerError):
    """A whole checkpoint that does not fit: names the setting or parameter, what was found and what expected."""


class SettingError(TrainerError):
    """A setting that cannot be used."""


class Incomparable(TrainerError):
    """The network before a round cannot be judged on today's evaluation data; the text says why."""


class NonFinite(TrainerError):
    """A loss or parameter became NaN or infinite; names the step and the shards of its batch."""


def shown(names: Sequence[str]) -> str:
    """Names for a message: the first few, and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def reason(error: Exception) -> str:
    """What an error of a task's code says, in one line; of a KeyError `'y'` alone would say little."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
