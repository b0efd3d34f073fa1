"""The files in `attempts/`: who comes last, and the two ways to become the one who does."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from cloud.errors import Damaged, StoreError
from cloud.names import ATTEMPTS, attempt_key, claimed_attempt, life_key, writing_attempt
from cloud.records import AttemptFile, ClaimFile
from cloud.sealed import load, seal
from cloud.store import Store

MAX_NUMBER = 10**15 - 1
MIN_UNSORTED = 10**5


class Numbers(NamedTuple):
    """The highest number that a claim file is for, and the highest that any other key carries; 0 for none."""

    claimed: int
    written: int


class Standing(NamedTuple):
    """Whether the claim file of a number is still there, and a number that was taken after it."""

    is_there: bool
    successor: int | None


class Attempts(Protocol):
    """How numbers are taken where the store has create-only puts, and where it has not."""

    def claims(self, number: int) -> list[AttemptFile | None]:
        """What is claimed under a number: None for a file that cannot be read; several only without create-only."""

    def take(self, claim: ClaimFile) -> str | None:
        """The key of the claim file, now written; None when the number went to somebody else.

        An answer may be lost or repeated: the nonce in the file settles whose it is. Errors of the store are
        raised when the file is not there.
        """

    def standing(self, number: int) -> Standing:
        """How a number that was taken stands now."""


def attempts_in(store: Store) -> Attempts:
    """The form that fits the store."""
    return CreateOnly(store) if store.can_create else PutAndList(store)


def numbers(store: Store) -> Numbers:
    """From one listing of the whole folder: a claim file that somebody removed must not free its number."""
    claimed = written = 0
    for entry in store.list():
        claimed = max(claimed, claimed_attempt(entry.key) or 0)
        written = max(written, writing_attempt(entry.key) or 0)
    if max(claimed, written) >= MAX_NUMBER:
        raise Damaged(f"{store.url} has a file of attempt {max(claimed, written)}, which was never made: remove it")
    return Numbers(claimed, written)


def life(store: Store, number: int) -> bytes | None:
    """An attempt's sign of life; only whether it changes has a meaning."""
    try:
        return store.read(life_key(number), 0, 64)
    except FileNotFoundError:
        return None


class CreateOnly:
    """A number is the one key `attempts/000007.json`, which the store lets one process create."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def claims(self, number: int) -> list[AttemptFile | None]:
        """See `Attempts`; the names of the other form are understood as well."""
        found = _read(self._store, attempt_key(number))
        return found or [claim for _, key in _listed(self._store, number) for claim in _read(self._store, key)]

    def take(self, claim: ClaimFile) -> str | None:
        """See `Attempts`."""
        key = attempt_key(claim.attempt)
        try:
            self._store.create(key, seal(claim))
        except (FileExistsError, StoreError) as error:
            there = _read(self._store, key)
            if not there and isinstance(error, StoreError):
                raise
            return key if any(file is not None and file.nonce == claim.nonce for file in there) else None
        return key

    def standing(self, number: int) -> Standing:
        """See `Attempts`."""
        return _standing(self._store, number)


class PutAndList:
    """A number is taken by putting `attempts/000007-NONCE.json` and then seeing nobody else's in a listing.

    Of two that put at the same time the later listing sees both files, so two never both see themselves alone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def claims(self, number: int) -> list[AttemptFile | None]:
        """See `Attempts`."""
        return [claim for _, key in _listed(self._store, number) for claim in _read(self._store, key)]

    def take(self, claim: ClaimFile) -> str | None:
        """See `Attempts`."""
        key = attempt_key(claim.attempt, claim.nonce)
        try:
            if self._alone(key, claim):
                return key
        except StoreError:
            # What stays behind if this fails too is a silent candidate: it costs the next one a timeout.
            with contextlib.suppress(StoreError):
                self._store.delete(key)
            raise
        self._store.delete(key)
        return None

    def _alone(self, key: str, claim: ClaimFile) -> bool:
        failed: StoreError | None = None
        try:
            self._store.put(key, seal(claim))
        except StoreError as error:
            failed = error
        last = [other for number, other in _listed(self._store) if number >= claim.attempt]
        if failed is not None and key not in last:
            raise failed
        return last == [key]

    def standing(self, number: int) -> Standing:
        """See `Attempts`."""
        return _standing(self._store, number)


def _standing(store: Store, number: int) -> Standing:
    """One listing: a stray file may have made the next number any higher one, in either form."""
    # Keys begin with "0" up to here, and sort before those of all higher numbers; later ones may have more digits.
    after = f"{ATTEMPTS}{number:06d}" if number < MIN_UNSORTED else ""
    is_there = False
    for other, _ in _listed(store, start_after=after):
        if other > number:
            return Standing(is_there, other)
        is_there = is_there or other == number
    return Standing(is_there, None)


def _listed(store: Store, number: int | None = None, start_after: str = "") -> Iterator[tuple[int, str]]:
    """(number, key) of the claim files, or of those for one number."""
    for entry in store.list(ATTEMPTS if number is None else f"{ATTEMPTS}{number:06d}", start_after):
        claimed = claimed_attempt(entry.key)
        if claimed is not None and number in (None, claimed):
            yield claimed, entry.key


def _read(store: Store, key: str) -> list[AttemptFile | None]:
    """The file as a list of one, or of none when it is not there; None when it is still damaged the second time."""
    try:
        for _ in range(2):  # the way here can damage bytes too
            with contextlib.suppress(Damaged):
                return [load(store, key, AttemptFile)]
    except FileNotFoundError:
        return []
    return [None]
