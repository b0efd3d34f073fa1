"""The rounds that a checkpoint names; what a lost ledger file said is found out from the data."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from cloud.errors import Damaged, NoSuchBucket
from cloud.folder import Chosen, OutputFolder
from cloud.open import open_store
from cloud.records import FileDigest, Record
from cloud.urls import without_credentials
from entrypoint.attempt import Attempt
from entrypoint.errors import SettingsError
from entrypoint.places import options
from entrypoint.rounds import Rounds
from entrypoint.settings import JobConfig
from trainer.checkpoint import Payload
from trainer.errors import DataError
from trainer.ledger import Ledger, Lines, Round
from trainer.outline import Outline


class OfNoUse(Exception):
    """Files for which an older checkpoint must do, each with the reason: lost for good, or those of another run."""

    def __init__(self, files: Mapping[FileDigest, str]) -> None:
        super().__init__(next(iter(files.values())))
        self.files = files


@dataclass(frozen=True)
class Found:
    """All rounds of a checkpoint: as they were read or rebuilt, their files, all whole, and their outlines."""

    ledger: Ledger
    files: tuple[FileDigest, ...]
    outlines: tuple[Outline, ...]


def read_ledger(folder: OutputFolder, record: Record) -> Ledger:
    """The rounds that a record names."""
    return Ledger(tuple(_lines(folder, file) for file in record.ledgers))


def rounds_of(config: JobConfig) -> Ledger:
    """The ledger of the run that --rounds_from names."""
    folder = OutputFolder(open_store(str(config.rounds_from), options(config)))
    records: list[Record] = []
    with suppress(NoSuchBucket):
        records = folder.records()
    if not records:
        url = without_credentials(str(config.rounds_from))
        raise SettingsError(f"--rounds_from {url}: no checkpoint there; name the output folder of a run")
    return read_ledger(folder, records[0])


def found_rounds(attempt: Attempt, chosen: Chosen, payload: Payload, rounds: Rounds) -> Found:
    """The rounds of the chosen checkpoint; lost files are rebuilt and written under a name of this attempt.

    Raises OfNoUse, with nothing written, where the data does not tell any longer what they said.
    """
    outlines = tuple(Outline.from_dict(plain) for plain in payload.rounds)
    ledger, rebuilt = Ledger(), dict[FileDigest, Round]()
    for place, file in enumerate(chosen.record.ledgers):
        if file not in chosen.lost:
            ledger = ledger.with_round(_lines(attempt.reading, file))
            continue
        try:
            round = rounds.again(ledger, outlines[place])
        except (DataError, Damaged, IndexError) as error:
            why = "it has no outline" if isinstance(error, IndexError) else error
            raise OfNoUse({file: f"{chosen.lost[file]}; it cannot be rebuilt from the data: {why}"}) from error
        rebuilt[file] = round
        ledger = ledger.with_round(round.to_lines)
    files = tuple(_written(attempt, rebuilt[file]) if file in rebuilt else file for file in chosen.record.ledgers)
    for file in rebuilt:
        rounds.rebuilt(file.key, chosen.lost[file])
    missing = [Outline.of(ledger.round(number + 1)) for number in range(len(outlines), len(ledger))]
    return Found(ledger, files, (*outlines, *missing))


def _written(attempt: Attempt, round: Round) -> FileDigest:
    return attempt.folder.write_ledger(round.number, round.to_lines())


def _lines(folder: OutputFolder, file: FileDigest) -> Lines:
    return lambda: folder.read_ledger(file)
