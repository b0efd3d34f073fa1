"""Servers that tests share: one per session and test process, started when first asked for."""

import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest

from tests.servers import AzureServer, S3Server, Unavailable, start_azure, start_s3

# A machine that is busy with something else makes no example wrong.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """What trains inside a test's process flushes them, which Hypothesis in a later test does not bear."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running SeaweedFS server; make a bucket of your own in it."""
    with start_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """A running Azurite server; skipped where it cannot be installed, unless TESTS_NEED_AZURE=1, as in CI."""
    try:
        started = start_azure(tmp_path_factory.mktemp("azure"))
        server = started.__enter__()
    except Unavailable as error:
        if os.environ.get("TESTS_NEED_AZURE") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield server
    started.__exit__(None, None, None)
