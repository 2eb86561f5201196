"""Buckets: what both kinds promise, on a folder and on moto's S3."""

from pathlib import Path

import pytest

from actors.settings import StorageSettings
from actors.storage.bucket import Bucket
from actors.storage.opening import open_bucket
from bucket_contract import BucketContract
from servers.store import S3Store


class TestFolderBucket(BucketContract):
    @pytest.fixture
    def bucket(self, tmp_path: Path) -> Bucket:
        return open_bucket(str(tmp_path / "out"))


class TestS3Bucket(BucketContract):
    dates_uploads = False  # moto says 2010

    @pytest.fixture
    def bucket(self, moto_store: S3Store) -> Bucket:
        return open_bucket(moto_store.url, StorageSettings(), patience_seconds=10)
