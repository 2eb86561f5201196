"""From a URL to a Bucket: `s3://bucket/prefix`, or the path of a folder."""

import os
from pathlib import Path

from actors.errors import InputError, Problem
from actors.settings import StorageSettings
from actors.storage.bucket import Bucket, Wanted, always
from actors.storage.folder import FolderBucket

PATIENCE_SECONDS = 900.0
"""A store may be away this long, and costs its writers no more than the time."""
FIRST_MEETING_SECONDS = 15.0
"""Of patience with a store that has not answered yet: a misspelt endpoint looks like an outage."""
BY_THE_ENVIRONMENT = StorageSettings()
"""Endpoint, region and credentials as boto3 finds them."""


def open_bucket(
    url: str,
    settings: StorageSettings = BY_THE_ENVIRONMENT,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
    wanted: Wanted = always,
) -> Bucket:
    """The Bucket at `url`. Nothing is created or asked before it is used.

    Once it is no longer `wanted`, every request has one attempt: what a store that answers takes is taken, and one that
    is away is waited for no longer.
    Whoever meets a store for the first time does so with `FIRST_MEETING_SECONDS` of patience.
    """
    bucket, prefix = split(url)
    if bucket is None:
        return FolderBucket(Path(prefix))
    from actors.storage.s3 import S3Bucket  # boto3 takes half a second, which `lightmill --help` does not have

    return S3Bucket(bucket, prefix, settings, patience_seconds, wanted)


def absolute(url: str) -> str:
    """The URL as it holds on every machine and from every working directory."""
    bucket, prefix = split(url)
    if bucket is None:
        return prefix
    return f"s3://{bucket}/{prefix}".rstrip("/")


def split(url: str) -> tuple[str | None, str]:
    """`("bucket", "prefix")` of an `s3://` URL, `(None, "/absolute/path")` of a folder."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return None, os.path.normpath(Path(url).expanduser().absolute())
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        problem = Problem(
            "LM1106", "neither a folder nor an s3:// URL", value=url, help="s3://BUCKET/PREFIX, or a path"
        )
        raise InputError(problem)
    return bucket, prefix.strip("/")
