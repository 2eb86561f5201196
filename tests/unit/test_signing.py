"""Signatures of writes cover the body by the checksum that comes with it, and everything else as botocore does it."""

import hashlib
import re

import pytest
from botocore.auth import AUTH_TYPE_MAPS

from actors.settings import StorageSettings
from actors.storage import signing
from actors.storage.opening import open_bucket
from actors.storage.upload import PART_BYTES

PART = bytes(range(256)) * (PART_BYTES // 256)


@pytest.fixture
def sent(moto_store):
    """A bucket, and the requests that its client sends."""
    bucket = open_bucket(moto_store.url, StorageSettings(), patience_seconds=10)
    requests = []
    bucket.client._client.meta.events.register("before-send.s3", lambda request, **_: requests.append(request))
    return bucket, requests


def signed_hashes(requests, method):
    return [request.headers["X-Amz-Content-SHA256"].decode() for request in requests if request.method == method]


def test_a_write_is_signed_by_the_hash_of_its_body(sent):
    bucket, requests = sent
    bucket.put("small", b"abc")
    with bucket.upload("large") as upload:
        upload.write(PART + b"end")
        upload.complete()

    bodies = {hashlib.sha256(data).hexdigest() for data in (b"abc", PART, b"end")}
    assert set(signed_hashes(requests, "PUT")) == bodies


def test_no_body_is_hashed_for_its_signature_alone(sent, monkeypatch):
    bucket, _ = sent
    monkeypatch.setattr(signing.S3SigV4Auth, "payload", lambda *_: pytest.fail("hashed once more"))
    bucket.put("small", b"abc")

    assert bucket.client.takes_checksums


def test_a_write_without_a_checksum_and_all_else_is_signed_as_ever(sent):
    bucket, requests = sent
    bucket.client.takes_checksums = False
    bucket.put("small", b"abc")
    bucket.get("small")

    assert signed_hashes(requests, "PUT") == [hashlib.sha256(b"abc").hexdigest()]
    (request,) = [request for request in requests if request.method == "GET"]
    assert re.match(rb"AWS4-HMAC-SHA256 Credential=", request.headers["Authorization"])
    assert AUTH_TYPE_MAPS["s3v4"] is not signing.HashedSigner
