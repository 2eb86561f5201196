"""S3Bucket on real servers, over HTTP and TLS: what it promises, through faults and an outage."""

import pytest

from actors.settings import StorageSettings
from actors.storage.bucket import Bucket
from actors.storage.opening import open_bucket
from bucket_contract import BucketContract
from servers.store import S3Store


class TestServers(BucketContract):
    examples = 10

    @pytest.fixture
    def bucket(self, s3_store: S3Store) -> Bucket:
        self.honours_preconditions = type(s3_store.server).__name__ == "RgwServer"
        return open_bucket(s3_store.url, StorageSettings(), patience_seconds=10)
