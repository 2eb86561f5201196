"""An empty place on an S3 server, with the environment set so that any S3 client finds it."""

import uuid
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from servers.server import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class S3Store:
    """A bucket and prefix that nobody else uses."""

    server: S3Server
    endpoint: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def client(self, **config: object) -> "closing[S3Client]":
        """A plain boto3 client, to look at the store past lightmill: `with store.client() as s3:`."""
        return self.server.client(self.endpoint, **config)


def place_on(server: S3Server, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A new bucket and prefix, with the environment pointed at the endpoint: the server's own, or that of a proxy."""
    for name, value in server.environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return S3Store(server, endpoint, server.create_bucket(), f"datasets/{uuid.uuid4().hex[:8]}")
