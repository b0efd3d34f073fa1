"""Where something is: URLs taken apart, joined and compared, and which keys may be used below them."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from cloud.errors import UrlError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_NEARLY = re.compile(r"\s*(s3[an]?|obs|gs|az|abfss?|file|memory|https?|hdfs|sftp):.*", re.IGNORECASE | re.DOTALL)
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")
_QUERY = re.compile(r"(://[^?]*)\?.*", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Url:
    """A URL in parts: `s3`, `bucket`, `a/b/`. A plain path is scheme `file` with its absolute path in `path`."""

    scheme: str
    host: str
    path: str

    @property
    def prefix(self) -> str:
        """The path as what every key below it begins with: "" or something that ends with "/"."""
        return self.path.strip("/") + "/" if self.path.strip("/") else ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Host and path as the sequence of names one goes down."""
        return (self.host, *(part for part in self.path.split("/") if part))


def parse_url(text: str) -> Url:
    """The parts of a URL or a local path (resolved, so that two names of one folder are equal); UrlError for none."""
    if not text or _CONTROL.search(text):
        what = "holds a control character" if text else "empty"
        raise UrlError(f"{without_credentials(text)!r}: no URL and no path: {what}")
    match = _SCHEME.fullmatch(text)
    if match is None:
        return _path_url(text)
    scheme, rest = match[1].lower(), match[2]
    host, _, path = rest.partition("/")
    if scheme == "file":
        return _local_url(text, host, path)
    return Url(scheme, host, path)


def _path_url(text: str) -> Url:
    """A path. What a slip of the pen made of a URL is none: the job would train into a folder of that name."""
    if _NEARLY.fullmatch(text):
        raise UrlError(f"{text}: no URL: write SCHEME://..., or ./{text.strip()} if it is the name of a folder")
    if text.startswith("~"):
        raise UrlError(f"{text}: only a shell knows what ~ is, and it saw none here; write the whole path")
    return Url("file", "", str(Path(text).resolve()))


def _local_url(text: str, host: str, path: str) -> Url:
    if host not in ("", "localhost"):
        raise UrlError(f"{text}: names the machine {host!r}; a local URL has three slashes, as in file:///folder")
    return Url("file", "", str(Path("/" + unquote(path)).resolve()))


def without_credentials(url: str) -> str:
    """The URL without `user:password@` and without its query, where signatures are: fit for messages."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", url))


def join_url(url: str, *parts: str) -> str:
    """The place that `parts` name below `url`, in the same spelling: `./data` and `eval` are `./data/eval`."""
    return "/".join([url.rstrip("/") if url.strip("/") else url[:-1], *(part.strip("/") for part in parts)])


def is_same(a: str, b: str) -> bool:
    """Whether both name one place."""
    first, second = parse_url(a), parse_url(b)
    return (first.scheme, first.parts) == (second.scheme, second.parts)


def overlap(a: str, b: str) -> bool:
    """Whether one place contains the other or both are the same."""
    first, second = parse_url(a), parse_url(b)
    shared = min(len(first.parts), len(second.parts))
    return first.scheme == second.scheme and first.parts[:shared] == second.parts[:shared]


def check_key(url: str, key: str) -> str:
    """`key`, or UrlError when it would lead out of the place or no store could hold it."""
    parts = key.split("/")
    if _CONTROL.search(key) or any(part in ("", ".", "..") for part in parts):
        raise UrlError(f"{url}: {key!r} cannot be a key: it has an empty part, a dot part or a control character")
    return key
