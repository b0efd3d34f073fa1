"""What a stop still saves: decided by how long a snapshot and its upload took so far, here."""

from dataclasses import dataclass
from enum import Enum

MARGIN = 1.2
"""An upload may take this much longer than the last one did."""


class Decision(Enum):
    """What to do before leaving."""

    NEW = "take a snapshot of this step, and publish it"
    FLIGHT = "wait for the snapshot in flight, and take no other"
    OLDER = "keep what is published, and leave at once"


@dataclass
class Costs:
    """How long saving takes on this machine and this store; None where it was not measured yet."""

    copy_seconds: float | None = None
    publish_seconds: float | None = None

    def decide(self, seconds_left: float, seconds_in_flight: float | None) -> Decision:
        """What can be done in `seconds_left`. `seconds_in_flight`: how long a publication has been under way, if any.

        What was never measured is tried: it costs nothing that is published.
        """
        copy, publish = self.copy_seconds or 0.0, self.publish_seconds
        if publish is None:
            return Decision.NEW
        in_flight = 0.0 if seconds_in_flight is None else max(0.0, MARGIN * publish - seconds_in_flight)
        if in_flight + MARGIN * (copy + publish) <= seconds_left:
            return Decision.NEW
        if seconds_in_flight is not None and in_flight <= seconds_left:
            return Decision.FLIGHT
        return Decision.OLDER

    def in_words(self) -> str:
        """For the log."""
        seconds = (self.copy_seconds or 0.0) + (self.publish_seconds or 0.0)
        return f"a snapshot and its upload take about {seconds:.1f} s here"
