"""How each kind of bucket is reached: addresses, credentials, and how long to wait for an answer."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from cloud.answers import Asker
from cloud.errors import AccessDenied, UrlError
from cloud.objects import Place
from cloud.unfinished import UnfinishedUploads
from cloud.urls import Url, check_key, without_credentials

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import ClientConfig, RetryConfig, S3Credential
    from obstore.store import ObjectStore as Backend

# An endpoint that drops packets is given up after two attempts to connect, 10 s; one that stalls after 10 s.
_QUICK: dict[str, str] = {"connect_timeout": "5s", "read_timeout": "10s", "timeout": "10m"}
_QUICK_RETRY_SECONDS = 6
# The parts of an upload share the line: on 10 Mbit/s those in flight need 54 s. A read_timeout would not find a stall
# sooner: it runs while a request is still being sent, and would cut off a slow one that moves.
_PATIENT: dict[str, str] = {"connect_timeout": "5s", "timeout": "60s"}
_PATIENT_RETRY_SECONDS = 12
_NUM_RETRIES = 3

# obstore asks for credentials again when they have less than 5 minutes left: before every request. botocore then
# renews those that end soon; those of a file are read again after this time, because somebody may have replaced them.
_ASK_AGAIN = timedelta(minutes=1)
READ_AGAIN_SECONDS = 30.0

_AWS_ADVICE = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
_GOOGLE_ADVICE = "set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account"
_AZURE_ADVICE = "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or give the machine an identity"


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """What a URL does not say. Credentials are none of it: each cloud's own variables, files and roles hold them.

    `endpoint_url` is the address of an S3-compatible server, of OBS, or of an emulator. `retry_seconds` bounds
    how long one operation is repeated; it should stay well below the time between SIGTERM and SIGKILL.
    `access_key` is the one of AWS that obstore finds in variables, with all that belongs to it: then botocore, whose
    import takes as long as some requests, is not asked for another. `is_amazon`: s3:// means Amazon's own servers.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = None
    is_amazon: bool = False
    retry_seconds: float = 15.0


_MEMORIES: dict[str, MemoryStore] = {}


class _Traits(TypedDict, total=False):
    """How kinds of places differ; see `Place`."""

    can_create: bool
    in_order: bool
    unfinished: UnfinishedUploads


Build = Callable[["ClientConfig", "RetryConfig"], "Backend"]


def place(text: str, url: Url, options: StoreOptions) -> Place | None:
    """The place a URL names; None for a scheme that obstore does not know. Raises UrlError."""
    makers = {"s3": _s3, "obs": _obs, "gs": _gs, "az": _az}
    if url.scheme not in (*makers, "memory"):
        return None
    shown = without_credentials(text)
    if shown != text:
        raise UrlError(
            f"{shown}: leave credentials and a query out of the URL, it ends up in logs; set them in the environment"
        )
    if not url.host:
        raise UrlError(f"{text}: names no bucket; write {url.scheme}://BUCKET/FOLDER/")
    if url.prefix:
        check_key(text, url.prefix.rstrip("/"))
    return _memory(text, url) if url.scheme == "memory" else makers[url.scheme](text, url, options)


def _s3(text: str, url: Url, options: StoreOptions) -> Place:
    provider, key = _aws_key(text, options)
    config = _given(endpoint=options.endpoint_url, region=options.region)
    return _place(
        Asker(text, _shown(options.endpoint_url, "AWS S3"), key),
        url,
        lambda client, retry: S3Store(
            url.host, credential_provider=provider, client_options=client, retry_config=retry,
            disable_bulk_delete=True, **config,
        ),
        unfinished=UnfinishedUploads(url.host, options.endpoint_url, options.region),
        # As Amazon documents it for all buckets but directory buckets; SeaweedFS has an order of its own too.
        in_order=options.is_amazon and not url.host.endswith("-s3"),
    )  # fmt: skip


def _obs(text: str, url: Url, options: StoreOptions) -> Place:
    """Huawei OBS: the bucket in the host name, no bulk deletes without Content-MD5, no create-only puts."""
    if not (options.endpoint_url or options.region):
        raise UrlError(f"{text}: where is it? Set --region, as in cn-north-4, or --endpoint_url")
    endpoint = options.endpoint_url or f"https://obs.{options.region}.myhuaweicloud.com"
    scheme, _, host = endpoint.rstrip("/").partition("://")
    own_host = host if host.startswith(f"{url.host}.") else f"{url.host}.{host}"
    provider, key = _aws_key(text, options)
    return _place(
        Asker(text, _shown(endpoint, ""), key),
        url,
        lambda client, retry: S3Store(
            url.host, credential_provider=provider, client_options=client, retry_config=retry,
            endpoint=f"{scheme}://{own_host}", region=options.region or "obs",
            virtual_hosted_style_request=True, disable_bulk_delete=True,
        ),
        unfinished=UnfinishedUploads(
            url.host, f"{scheme}://{host.removeprefix(url.host + '.')}", options.region or "obs", virtual_hosted=True
        ),
        can_create=False,
        in_order=False,
    )  # fmt: skip


def _gs(text: str, url: Url, options: StoreOptions) -> Place:
    config = _given(base_url=options.endpoint_url)
    return _place(
        Asker(text, _shown(options.endpoint_url, "Google Cloud Storage"), _GOOGLE_ADVICE),
        url,
        lambda client, retry: GCSStore(url.host, client_options=client, retry_config=retry, **config),
    )


def _az(text: str, url: Url, options: StoreOptions) -> Place:
    config = _given(endpoint=options.endpoint_url)
    return _place(
        Asker(text, _shown(options.endpoint_url, "Azure"), _AZURE_ADVICE),
        url,
        lambda client, retry: AzureStore(url.host, client_options=client, retry_config=retry, **config),
        in_order=False,
    )


def _memory(text: str, url: Url) -> Place:
    """One memory per name and process."""
    backend = _MEMORIES.setdefault(url.host, MemoryStore())
    return Place(asker=Asker(text, "this process", ""), prefix=url.prefix, backend=backend, uploads=backend)


def _place(asker: Asker, url: Url, build: Build, **traits: Unpack[_Traits]) -> Place:
    try:
        return Place(
            asker=asker,
            prefix=url.prefix,
            backend=build(*_limits(_QUICK, _QUICK_RETRY_SECONDS)),
            uploads=build(*_limits(_PATIENT, _PATIENT_RETRY_SECONDS)),
            **traits,
        )
    except (BaseError, ValueError) as error:
        reason = str(error).partition("\n")[0].rpartition(" error: ")[2]
        raise UrlError(f"{asker.url}: {reason}; {asker.credentials}") from None


def _limits(client: dict[str, str], retry_seconds: float) -> tuple["ClientConfig", "RetryConfig"]:
    """Plain http is allowed because it is only used for an endpoint that was written so."""
    options: Any = {"allow_http": True, **client}
    return options, {"max_retries": _NUM_RETRIES, "retry_timeout": timedelta(seconds=retry_seconds)}


class _AwsCredentials:
    """What botocore finds: variables, profiles, SSO, roles. It is asked by obstore's threads."""

    def __init__(self, provider: "Boto3CredentialProvider", look: "Callable[[], Boto3CredentialProvider]") -> None:
        self.provider = provider
        self.config = provider.config
        self._look = look
        self._looked_at = time.monotonic()

    def __call__(self) -> "S3Credential":
        """The credentials of now."""
        if self._is_static and time.monotonic() - self._looked_at > READ_AGAIN_SECONDS:
            self._looked_at = time.monotonic()
            with suppress(ValueError, AccessDenied):  # a file that is just being replaced
                self.provider = self._look()
        return self.provider()

    @property
    def _is_static(self) -> bool:
        """Whether they are a file's, which botocore reads once; those with an end it renews itself."""
        return self.provider.credentials.method in ("shared-credentials-file", "config-file", "custom-process")


def _aws_key(text: str, options: StoreOptions) -> tuple[_AwsCredentials | None, str]:
    """Where the key comes from (None: obstore looks by itself), and which one is used at the start, in words."""
    if options.access_key:
        return None, _in_words(options.access_key, "env")
    found = _aws_credentials(text)
    if found is None:
        return None, _AWS_ADVICE
    credentials = found.provider.credentials
    return found, _in_words(credentials.access_key or "", credentials.method)


def _aws_credentials(text: str) -> _AwsCredentials | None:
    """None: obstore looks by itself, for credentials that botocore does not find or where it is not installed."""
    try:
        return _AwsCredentials(_found_by_botocore(text), partial(_found_by_botocore, text))
    except (ImportError, ValueError):  # it found none; public buckets need none (AWS_SKIP_SIGNATURE)
        return None


def _found_by_botocore(text: str) -> "Boto3CredentialProvider":
    import botocore.session
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = botocore.session.Session()
    try:
        provider = Boto3CredentialProvider(session, ttl=_ASK_AGAIN)
    except BotoCoreError as error:
        raise AccessDenied(f"{text}: no AWS credentials: {' '.join(str(error).split())}") from None
    provider.config = _given(default_region=session.get_config_variable("region"))
    return provider


def _in_words(key: str, source: str) -> str:
    """A key by its last four characters, and where it came from."""
    return f"the access key ...{key[-4:]} (from {'AWS_ACCESS_KEY_ID' if source == 'env' else source})"


def _shown(endpoint_url: str | None, usual: str) -> str:
    return without_credentials(endpoint_url) if endpoint_url else usual


def _given(**values: str | None) -> Any:
    """Those that were given; the others obstore takes from the environment."""
    return {name: value for name, value in values.items() if value is not None}
