"""Multipart uploads that killed processes began in an S3 bucket: invisible, paid for, and for ever unless aborted."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnfinishedUploads:
    """Those of one bucket, through botocore, since obstore cannot list them; `virtual_hosted`: as OBS wants it."""

    bucket: str
    endpoint_url: str | None
    region: str | None
    virtual_hosted: bool = False

    def abort(self, prefix: str, which: Callable[[str], bool]) -> int:
        """Abort those of keys below `prefix` that `which` picks by what follows it; how many there were.

        0 where botocore is not installed or may not list them: what stays is invisible and harms nobody.
        """
        try:
            import botocore.session
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            return 0
        style = {"addressing_style": "virtual" if self.virtual_hosted else "auto"}
        try:
            client = botocore.session.Session().create_client(
                "s3", region_name=self.region, endpoint_url=self.endpoint_url,
                config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2}, s3=style),
            )  # fmt: skip
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
            found = [upload for page in pages for upload in page.get("Uploads", ())]
            left = [upload for upload in found if which(upload["Key"].removeprefix(prefix))]
            for upload in left:
                client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        except (BotoCoreError, ClientError) as error:
            _log.info("unfinished uploads in %s stay: %s", self.bucket, type(error).__name__)
            return 0
        return len(left)
