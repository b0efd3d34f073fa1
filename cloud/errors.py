"""What can go wrong between the job and its stores.

    CloudError
    ├── UrlError            the URL names nothing that can be used: fix it
    │   └── NoSuchBucket    the bucket, container or local folder is not there
    ├── StoreError          the store cannot be reached or refuses
    │   ├── Unreachable     no answer, or an answer that may change: worth a retry
    │   ├── AccessDenied    these credentials may not do that
    │   └── StoreFull       no space or quota left
    ├── Damaged             bytes that are not what was written
    │   └── Gone            an object that was listed or recorded is not there any more
    ├── CacheTooSmall       a shard does not fit into the local cache: a larger limit helps
    └── ClaimError          the output folder belongs to another attempt
        ├── ClaimHeld       it is alive: submit again later
        └── ClaimLost       it took over while this one was silent

A missing key is the builtin FileNotFoundError, a key that create-only found taken FileExistsError.
"""


class CloudError(Exception):
    """Base of this package's errors; its text is one line: what, where, what to do."""


class UrlError(CloudError):
    """The URL names nothing that can be used."""


class NoSuchBucket(UrlError):
    """The bucket, container or local folder is not there."""


class StoreError(CloudError):
    """The store cannot be reached or refuses."""


class Unreachable(StoreError):
    """No answer, or one that may change (5xx, throttling, a reset): the only kind that is retried."""


class AccessDenied(StoreError):
    """The store knows who asks and refuses, or does not know who asks."""


class StoreFull(StoreError):
    """No space or quota left."""


class Damaged(CloudError):
    """Bytes that are not what was written: a wrong size, digest or form."""


class Gone(Damaged):
    """An object that was listed or recorded is not there any more."""


class CacheTooSmall(CloudError):
    """A shard does not fit into the local cache, alone or beside those in use."""


class ClaimError(CloudError):
    """The output folder belongs to another attempt."""


class ClaimHeld(ClaimError):
    """Another attempt is alive and holds the folder."""


class ClaimLost(ClaimError):
    """A later attempt took the folder over."""
