"""One submission, from the claim to the exit code. `run` is the whole flow."""

import gc
import sys
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from cloud.scratch import scratch_directory
from cloud.threads import in_background, result_of
from entrypoint.attempt import Attempt, attempt
from entrypoint.console import Console
from entrypoint.places import Places, open_places
from entrypoint.report import Report
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop

if TYPE_CHECKING:
    from entrypoint.session import Session


def run(config: JobConfig, stop: Stop, console: Console) -> int:
    """Train what is left, then what is new; submitting the same job again continues it. Returns the exit code."""
    report = Report(console, stop.started)
    imports = in_background(_import_trainer, "imports")  # torch takes seconds: meanwhile the stores are asked
    places = open_places(config)
    with (
        scratch_directory() as scratch,
        attempt(config, places.output, scratch, report, stop) as held,  # claim, and predownload beside it
        _awaited(imports, report, stop)(held, places, config, report, stop) as session,
    ):
        session.restore(held, scratch)
        while (training := session.plan()) is not None:  # catalog and census; what is left, then what is new
            for epoch_end in session.train(training):
                if epoch_end is not None or session.saver.due():
                    session.save(training, epoch_end)  # copied here, published in the background
                if session.stopping():
                    break
            session.end_round(training)  # a stop in the middle of it is saved, and leaves from here
        session.done()
    return 0


class _OpenSession(Protocol):
    def __call__(
        self, held: Attempt, places: Places, config: JobConfig, report: Report, stop: Stop
    ) -> "AbstractContextManager[Session]": ...


def _import_trainer() -> _OpenSession:
    """What imports make stays for good, as does nearly all else by then: looking for garbage in it only takes time."""
    is_first = "torch" not in sys.modules
    if is_first:
        gc.disable()
    try:
        from entrypoint.session import open_session
    finally:
        if is_first:
            gc.freeze()
            gc.enable()
    return open_session


def _awaited(imports: Future[_OpenSession], report: Report, stop: Stop) -> _OpenSession:
    with report.phase("startup"):
        return result_of(imports, stop.check)
