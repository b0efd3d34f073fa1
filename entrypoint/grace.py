"""What a stop still saves: decided by how long a snapshot and its upload took so far, here."""

from dataclasses import dataclass
from enum import Enum

MARGIN = 1.2
"""An upload may take this much longer than the last one did."""


class Decision(Enum):
    """What to do before leaving."""

    NEW = "take a snapshot of this step, and publish it after those offered before"
    WAITING = "publish what was offered before, and take no other"
    FLIGHT = "wait for the snapshot in flight alone: the one behind it would be too late"
    OLDER = "keep what is published, and leave at once"


@dataclass
class Costs:
    """How long saving takes on this machine and this store; None where it was not measured yet.

    `publish_seconds` are without the rests while training went on (`rest_seconds`): after a stop there are none.
    """

    copy_seconds: float | None = None
    publish_seconds: float | None = None
    rest_seconds: float = 0.0

    def published(self, seconds: float, rest_seconds: float = 0.0, *, again: bool) -> None:
        """Note how long a publication took. One that was tried `again` may have found its upload done before."""
        self.rest_seconds = rest_seconds
        if not again:
            self.publish_seconds = seconds
        elif self.publish_seconds is not None:
            self.publish_seconds = max(self.publish_seconds, seconds)

    def decide(
        self, seconds_left: float, seconds_in_flight: float | None, num_waiting: int, *, is_new: bool = True
    ) -> Decision:
        """What can be done in `seconds_left`. `seconds_in_flight`: how long a publication has been under way, if any.

        `num_waiting` publications come after that one; with `is_new` there is another state that was never offered.
        What was never measured is tried: it costs nothing that is published.
        """
        if self.publish_seconds is None:
            return Decision.NEW
        publish = MARGIN * self.publish_seconds
        in_flight = 0.0 if seconds_in_flight is None else max(0.0, publish - seconds_in_flight)
        waiting = in_flight + num_waiting * publish
        new = MARGIN * (self.copy_seconds or 0.0) + publish if is_new else 0.0
        if waiting + new <= seconds_left:
            return Decision.NEW
        if num_waiting and waiting <= seconds_left:
            return Decision.WAITING
        if seconds_in_flight is not None and in_flight <= seconds_left:
            return Decision.FLIGHT
        return Decision.OLDER

    def in_words(self) -> str:
        """For the log."""
        seconds = (self.copy_seconds or 0.0) + (self.publish_seconds or 0.0)
        return f"a snapshot and its upload take about {seconds:.1f} s here"
