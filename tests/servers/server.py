"""What every S3 server of the tests offers: two endpoints, buckets, and dying and coming back on demand."""

import uuid
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config

from servers.certificates import make_certificates
from servers.ports import free_ports, wait_for_answer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

START_TIMEOUT_S = 60


class S3Server(ABC):
    """An S3 store on loopback, over HTTP and over TLS."""

    access_key = "AKIALIGHTMILLTEST001"  # rclone refuses keys of an unlikely length
    secret_key = "not-a-secret-only-for-loopback-tests"
    region = "us-east-1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificates = make_certificates(folder)
        self.ca_bundle = self.certificates.ca_bundle
        self.port, self.tls_port = free_ports(2)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.tls_endpoint = f"https://127.0.0.1:{self.tls_port}"

    @abstractmethod
    def start_gateway(self) -> None:
        """Serve both endpoints, with the data from before; returns when they answer."""

    @abstractmethod
    def kill_gateway(self) -> None:
        """End what listens on the endpoints without a goodbye. The data stays."""

    @abstractmethod
    def stop(self) -> None:
        """End every process of the server."""

    def wait_until_serving(self) -> None:
        for endpoint in (self.endpoint, self.tls_endpoint):
            wait_for_answer(endpoint, self.ca_bundle, START_TIMEOUT_S)

    def environment(self, endpoint: str) -> dict[str, str]:
        """The variables with which any S3 client of this process or a child talks to this endpoint, and nobody else."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_CA_BUNDLE": str(self.ca_bundle),
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self, endpoint: str, **config: object) -> "closing[S3Client]":
        """A plain boto3 client, `with server.client(endpoint) as s3:`; strict servers refuse boto3's own checksums."""
        settings = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "s3": {"addressing_style": "path"},
        }
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            verify=str(self.ca_bundle) if endpoint.startswith("https") else None,
            config=Config(**(settings | config)),
        )
        return closing(client)

    def create_bucket(self) -> str:
        """A new empty bucket that nobody else uses, on both endpoints."""
        name = f"lightmill-{uuid.uuid4().hex[:12]}"
        for endpoint in (self.endpoint, self.tls_endpoint):
            with self.client(endpoint) as s3:  # a store that has it already says so with success
                s3.create_bucket(Bucket=name)
        return name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
