"""One attempt at the output folder: the claim, what there is to continue from, and the outcome in any case."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cloud.attempts import attempts_in
from cloud.claim import Claim, claim
from cloud.errors import CloudError
from cloud.folder import NOTHING, Chosen, OutputFolder
from cloud.held import HeldFolder
from cloud.records import FileDigest
from cloud.store import Store
from cloud.threads import in_background, result_of
from cloud.wrapped import Counted
from entrypoint.aside import Aside
from entrypoint.errors import Stopped
from entrypoint.exits import exit_code, explain
from entrypoint.report import Report
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop


@dataclass(frozen=True)
class Attempt:
    """The claim that this process holds, the folder to read and to write, and the newest good checkpoint, if any."""

    claim: Claim
    reading: OutputFolder
    folder: HeldFolder
    chosen: Chosen | None
    choose: Callable[[Mapping[FileDigest, str]], Chosen | None]

    def without(self, given_up: Mapping[FileDigest, str]) -> "Attempt":
        """The same with the newest checkpoint that has none of these files, which are of no use for a reason."""
        chosen = self.choose(given_up)
        self.folder.parent = chosen.record if chosen else None
        return replace(self, chosen=chosen)


@contextmanager
def attempt(config: JobConfig, output: Store, scratch: Path, report: Report, stop: Stop) -> Iterator[Attempt]:
    """Claim the folder and predownload, one beside the other; write the outcome at the end, whatever it is.

    Raises ClaimHeld, leaving no trace, when another attempt is alive.
    """
    reading = OutputFolder(Counted(output, report.fetched))
    predownload = partial(_predownload, reading, config, report, stop)
    early = in_background(predownload, "predownload")
    with report.phase("claim"):
        timeout_seconds = config.claim_timeout_seconds
        held = claim(
            output,
            beat_seconds=min(5.0, timeout_seconds / 12),
            timeout_seconds=timeout_seconds,
            check=stop.check,
            waiting=report.console.warning,
        )
    stop.last_words = partial(_last_words, held, config, report, stop)
    try:
        report.began(held.number, config.train_url, config.task)
        report.told_removed |= _removed_before(output, held.number)
        chosen = result_of(early, stop.check)
        if not reading.is_newest(chosen):  # what was fetched before the claim counts only if it is still the newest
            if chosen is not None:
                chosen.close()
            chosen = predownload()
        folder = HeldFolder(output, held, chosen.record if chosen else None, reading.ledgers)
        fetched, chosen = chosen, Aside(config).take_back(folder, chosen, scratch, stop.check, report.console)
        if fetched is not None and fetched is not chosen:
            fetched.close()
        stop.newest = chosen.record.name if chosen else ""
        yield Attempt(held, reading, folder, chosen, predownload)
    except BaseException as error:
        kind = "stopped" if isinstance(error, Stopped) else "failed"
        code = exit_code(error, config.retry_exit_code)
        report.refused(reading.rejected)
        with contextlib.suppress(CloudError):  # what ended the attempt is what the caller must hear of
            held.finish(report.outcome(kind, code, explain(error)))
        raise
    held.finish(report.outcome("done" if report.has_trained else "nothing_new", 0, None))


def _last_words(held: Claim, config: JobConfig, report: Report, stop: Stop) -> None:
    """The outcome of an attempt that is ended by force: the next one need not wait for its sign of life."""
    error = Stopped(stop.requested or "")
    with contextlib.suppress(CloudError):
        held.finish(report.outcome("stopped", exit_code(error, config.retry_exit_code), explain(error)))


def _predownload(
    reading: OutputFolder,
    config: JobConfig,
    report: Report,
    stop: Stop,
    given_up: Mapping[FileDigest, str] = NOTHING,
) -> Chosen | None:
    with report.phase("predownload"), report.fetching():
        return reading.choose(stop.check, start_over=config.start_over, given_up=given_up)


def _removed_before(output: Store, number: int) -> set[str]:
    """The removed shards that the attempt before went on without: they are not news."""
    before = [file for file in attempts_in(output).claims(number - 1) if file and file.outcome != "failed"]
    return {key for file in before for key in file.removed_shards}
