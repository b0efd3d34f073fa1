"""What obstore's errors mean, in the words of `cloud.errors`: the one place that reads them.

obstore gives some answers a type of their own and the rest as GenericError (or OSError, from its writers), whose
text holds the HTTP status, the server's error code and the address. Only those are taken from it, never the text
itself: it can hold signed URLs.
"""

import errno
import re
from dataclasses import dataclass

from obstore import exceptions as obstore_errors

from cloud.errors import AccessDenied, NoSuchBucket, StoreError, StoreFull, Unreachable, UrlError
from cloud.urls import join_url, without_credentials

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]+)</Code>")
_SERVER = re.compile(r"Error performing [A-Z]+ (https?://[^/?\s]+)")
_REASON = re.compile(r'message: "([^"]{1,80})"')
_LOGIN = re.compile(r"token request|Error performing [A-Z]+ https?://[^/]+/latest/(?:api/token|meta-data/)")

_DENIED = obstore_errors.PermissionDeniedError, obstore_errors.UnauthenticatedError, PermissionError
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
# A 409 to one of two conditional writes at a time, of which the other may fail yet.
_IN_FLIGHT = {"ConditionalRequestConflict", "OperationAborted"}
_FULL = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "AccountQuotaExceeded"}


@dataclass(frozen=True)
class Asker:
    """Who asks where, for messages: without secrets. `credentials`: which were used, or how to set them."""

    url: str
    endpoint: str
    credentials: str


def translated(
    error: Exception, asker: Asker, key: str = "", *, writing: bool = False, creating: bool = False
) -> Exception:
    """The error to raise for one of obstore's. `key` is "" when the place as a whole was asked (a listing).

    obstore calls every 409 "already exists"; only an answer to a create (`creating`) can mean that.
    """
    answer = _Answer.of(error, asker)
    where = join_url(asker.url, key) if key else asker.url
    if creating and isinstance(error, obstore_errors.AlreadyExistsError) and answer.code not in _IN_FLIGHT:
        return FileExistsError(errno.EEXIST, "the key is taken", where)
    if answer.code in _NO_BUCKET or (answer.status == "404" and (writing or not key)):
        return NoSuchBucket(f"{asker.url}: no such bucket at {answer.server}; create it or mend the URL")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such object", where)
    if isinstance(error, ValueError):
        return UrlError(f"{where}: the store cannot hold such a key")
    if isinstance(error, _DENIED) or answer.status in ("401", "403") or answer.is_login:
        return answer.refusal(where, asker.credentials)
    return answer.meaning(where)


def means_past_end(error: Exception) -> bool:
    """Whether a range begins at or past the end of its object, which every store calls an error."""
    text = str(error)
    return _first(_STATUS, text) == "416" or "StartTooLarge" in text


@dataclass(frozen=True)
class _Answer:
    """What a server said: HTTP status and error code, both "" when there was no answer."""

    server: str
    status: str
    code: str
    text: str

    @classmethod
    def of(cls, error: Exception, asker: Asker) -> "_Answer":
        text = str(error)
        server = without_credentials(_first(_SERVER, text)) or asker.endpoint
        return cls(server, _first(_STATUS, text), _first(_CODE, text), text)

    def __str__(self) -> str:
        return f"{self.server} answered {self.status} {self.code}".rstrip()

    @property
    def is_login(self) -> bool:
        """Whether it is about finding credentials, from the machine's metadata service."""
        return _LOGIN.search(self.text) is not None

    def refusal(self, where: str, credentials: str) -> Exception:
        """Of an answer to these credentials, or of a search for credentials that found none."""
        if not self.status or self.is_login:
            return AccessDenied(f"access denied to {where}: no credentials could be had; {credentials}")
        return AccessDenied(f"access denied to {where}: {self} to {credentials}")

    def meaning(self, where: str) -> Exception:
        """Of an answer that is neither about the key nor about the credentials."""
        if self.code in _WRONG_REGION or "BareRedirect" in self.text:  # what obstore calls a 301 of S3
            return UrlError(f"{where}: {self.server} says that the bucket is in another region; set --region")
        if not self.status:
            return Unreachable(f"{where}: endpoint not reachable: {self.server}: {self._reason()}")
        if self.code in _FULL or self.status == "507":
            return StoreFull(f"{where}: {self}: no space or quota left")
        if self.status in ("408", "409", "425", "429") or self.status.startswith("5"):
            return Unreachable(f"{where}: {self}")
        return StoreError(f"{where}: {self}")

    def _reason(self) -> str:
        if "dns error" in self.text:
            return "its name is not known"
        if "TimedOut" in self.text or "kind: Timeout" in self.text:
            return "no answer in time"
        return _first(_REASON, self.text).lower() or "the connection broke"


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""
