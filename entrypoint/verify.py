"""`perdure verify`: whether an output folder is as it was written, and whether its newest steps can be taken again."""

import io
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console as Screen
from rich.table import Table
from rich.text import Text

from cloud.audit import Audit
from cloud.errors import Damaged, NoSuchBucket
from cloud.findings import Finding
from cloud.open import open_store
from cloud.records import Record
from cloud.store import Store
from cloud.urls import without_credentials
from entrypoint.console import Console
from entrypoint.places import options
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop

WIDTH = 108
"""Of the table: with its indent it fits a log of 120 columns."""


def run(config: JobConfig, stop: Stop, console: Console) -> int:
    """Check the folder and say what is found; nothing is written there. Returns the exit code.

    Raises Damaged where something is wrong, or nothing is there.
    """
    try:
        store = open_store(config.train_url, options(config))
        audit = Audit(store, stop.check, _deep(store, stop) if config.deep else None)
        findings = _look(audit, console)
    except NoSuchBucket as error:
        raise Damaged(_nothing(config)) from error
    if not findings:
        raise Damaged(_nothing(config))
    _tell(findings, console)
    if config.retrain:
        from entrypoint.retrain import retrain

        retrain(audit.whole, store, config, stop, console)
    _conclude(audit, findings, console)
    return 0


def _deep(store: Store, stop: Stop) -> Callable[[Record], None]:
    from entrypoint.deep import check  # torch takes seconds

    return lambda record: check(store, record, stop)


def _nothing(config: JobConfig) -> str:
    return f"{without_credentials(config.train_url)}: nothing of a run is there; name its --train_url"


def _look(audit: Audit, console: Console) -> list[Finding]:
    findings = []
    with console.progress(None, "verify", "files", tells_end=False) as bar:
        for finding in audit.run():
            findings.append(finding)
            bar.update()
    return findings


def _tell(findings: Sequence[Finding], console: Console) -> None:
    """One row for each, as a table; as JSON one line for each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("file", "state", "what is known"):
        table.add_column(name, overflow="fold")
    for one in findings:
        table.add_row(Text(one.key), Text(one.state), Text(one.detail))
    buffer = io.StringIO()
    Screen(file=buffer, width=WIDTH, color_system=None, force_terminal=False).print(table)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    console.table("verify", f"{len(findings)} files", lines, findings=[vars(one) for one in findings])


def _conclude(audit: Audit, findings: Sequence[Finding], console: Console) -> None:
    """Say what a submission would continue from; Damaged when something is wrong."""
    bad = [one for one in findings if one.is_bad]
    remains = _remains(audit)
    if bad:
        first = bad[0].detail if bad[0].detail.startswith(bad[0].key) else f"{bad[0].key}: {bad[0].detail}"
        raise Damaged(
            f"{len(bad)} of {len(findings)} files are not as they were written, the first: {first}; {remains}"
        )
    console.line("ok", remains)


def _remains(audit: Audit) -> str:
    if not audit.whole:
        return "no checkpoint remains to continue from" if audit.records else "no checkpoint is there yet"
    newest = audit.whole[0]
    lost = [file.key for file in newest.ledgers if file in audit.lost]
    if not lost:
        return f"{newest.name} is what the next submission continues from"
    return f"{newest.name} remains, if {', '.join(lost)} can be rebuilt from the data: the next submission tries"
