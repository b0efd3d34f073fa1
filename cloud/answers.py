"""What obstore's errors mean, in the words of `cloud.errors`: the one place that reads them.

obstore gives some answers a type of their own and the rest as GenericError, whose text holds the HTTP status and
the server's error code. Only those two are taken from it, never the text itself: it can hold signed URLs.
"""

import errno
import re
from dataclasses import dataclass

from obstore import exceptions as obstore_errors

from cloud.errors import AccessDenied, NoSuchBucket, StoreError, StoreFull, Unreachable, UrlError
from cloud.urls import join_url

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]+)</Code>")
_REASON = re.compile(r'message: "([^"]{1,80})"')
_LOGIN = re.compile(r"token request|169\.254\.169\.254|169\.254\.170\.2|metadata\.google|CredentialProvider")

_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
_FULL = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "AccountQuotaExceeded"}


@dataclass(frozen=True)
class Asker:
    """Who asks where, for messages: without secrets."""

    url: str
    endpoint: str
    credentials: str


def translated(error: Exception, asker: Asker, key: str = "", *, writing: bool = False) -> Exception:
    """The error to raise for one of obstore's. `key` is "" when the place as a whole was asked (a listing)."""
    text = str(error)
    where = join_url(asker.url, key) if key else asker.url
    status, code = _first(_STATUS, text), _first(_CODE, text)
    if isinstance(error, obstore_errors.AlreadyExistsError):
        return FileExistsError(errno.EEXIST, "the key is taken", where)
    if code in _NO_BUCKET or (status == "404" and (writing or not key)):
        return NoSuchBucket(f"{asker.url}: no such bucket at {asker.endpoint}; create it or mend the URL")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such object", where)
    if isinstance(error, ValueError):
        return UrlError(f"{where}: the store cannot hold such a key")
    if _LOGIN.search(text):
        return AccessDenied(f"access denied to {where}: no credentials were found; {asker.credentials}")
    return _by_status(error, asker, where, status, code)


def _by_status(error: Exception, asker: Asker, where: str, status: str, code: str) -> Exception:
    answer = f"{asker.endpoint} answered {status} {code}".rstrip()
    denied = isinstance(error, obstore_errors.PermissionDeniedError | obstore_errors.UnauthenticatedError)
    if code in _WRONG_REGION or status in ("301", "307"):
        return UrlError(f"{where}: {answer}: the bucket is in another region; set --region")
    if denied or status in ("401", "403"):
        return AccessDenied(f"access denied to {where}: {answer} to {asker.credentials}")
    if code in _FULL or status == "507":
        return StoreFull(f"{where}: {answer}: no space or quota left")
    if status in ("408", "409", "425", "429") or status.startswith("5"):
        return Unreachable(f"{where}: {answer}")
    if status:
        return StoreError(f"{where}: {answer}")
    return Unreachable(f"{where}: endpoint {asker.endpoint} is not reachable ({_reason(str(error))})")


def _reason(text: str) -> str:
    if "dns error" in text:
        return "its name is not known"
    if "TimedOut" in text or "kind: Timeout" in text:
        return "no answer in time"
    return _first(_REASON, text).lower() or "the connection broke"


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""
