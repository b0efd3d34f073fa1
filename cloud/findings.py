"""What a check of an output folder says of one file."""

from collections.abc import Callable
from dataclasses import dataclass

from cloud.errors import Damaged

OK, RUNNING, LEFT_OVER, GONE, NOT_OURS = "ok", "running", "left over", "gone", "not ours"
DAMAGED, MISSING, ALARM = "damaged", "missing", "alarm"


@dataclass(frozen=True)
class Finding:
    """One file, or a record and its object together: what state it is in, and more words."""

    key: str
    state: str
    detail: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether it is not as it was written, or cannot be meant."""
        return self.state in (DAMAGED, MISSING, ALARM)


def judged(key: str, look: Callable[[], str], state: str = OK) -> Finding:
    """`state` with the words that `look` returns, unless it raises Damaged or FileNotFoundError."""
    try:
        return Finding(key, state, look())
    except Damaged as error:
        return Finding(key, DAMAGED, str(error))
    except FileNotFoundError as error:
        return Finding(key, MISSING, str(error))
