"""S3Bucket on real servers, over HTTP and TLS: what it promises, through faults and an outage."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.encoding import decode
from actors.errors import PreconditionFailed, Problem, StorageError
from actors.settings import StorageSettings
from actors.storage.bucket import Bucket
from actors.storage.opening import open_bucket
from actors.storage.ranged import PIECE_BYTES
from bucket_contract import BucketContract
from builders import MODEL, finished
from cluster.doctor.findings import Fact
from cluster.doctor.store import CHECKSUMS, examine
from jobs.index import containers
from jobs.manifest import Manifest
from jobs.verify import verify
from servers.faultproxy import FaultProxy
from servers.rgw import RgwServer
from servers.store import S3Store

EACH_ONCE = pytest.mark.parametrize("s3_store", ["rgw-tls", "rclone-http"], indirect=True)
"""Each server and each transport: for what takes seconds."""
BIG = bytes(range(251)) * 80_000


class TestServers(BucketContract):
    examples = 10

    @pytest.fixture
    def bucket(self, s3_store: S3Store) -> Bucket:
        self.honours_preconditions = isinstance(s3_store.server, RgwServer)
        return open_bucket(s3_store.url, patience_seconds=30)

    @EACH_ONCE
    def test_list_goes_on_after_a_page(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
        """Of a hundred: to put the thousand that a page has takes 10 s, and moto shows that those are one."""
        call = bucket.client.call

        def paged(method: str, **parameters: object) -> dict:
            return call(method, **parameters, **({"MaxKeys": 100} if method == "list_objects_v2" else {}))

        monkeypatch.setattr(bucket.client, "call", paged)
        self.check_pages(bucket, 205)


def test_doctor_finds_every_right_and_what_the_store_makes_of_conditions_and_checksums(s3_store: S3Store):
    findings = list(examine(s3_store.url, StorageSettings()))
    facts = {finding.name: finding.value for finding in findings if isinstance(finding, Fact)}
    strong = isinstance(s3_store.server, RgwServer)
    assert [finding.code for finding in findings if isinstance(finding, Problem)] == ([] if strong else ["LM1850"])
    assert [value for value in facts.values() if value == "no"] == []
    assert facts["conditional writes"].startswith("strong" if strong else "ignored")
    assert facts["checksums"] in CHECKSUMS.values()
    assert list(open_bucket(s3_store.url).list()) == []


@pytest.fixture
def proxy(s3_store: S3Store) -> Iterator[FaultProxy]:
    with FaultProxy(s3_store.endpoint, s3_store.server.certificates) as proxy:
        yield proxy


@pytest.fixture
def bucket(s3_store: S3Store, proxy: FaultProxy) -> Bucket:
    """With the proxy between it and the server."""
    return open_bucket(s3_store.url, StorageSettings(endpoint_url=proxy.endpoint), patience_seconds=60)


def upload(bucket: Bucket, key: str) -> None:
    with bucket.upload(key) as writing:
        for start in range(0, len(BIG), 1_000_000):
            writing.write(BIG[start : start + 1_000_000])
        assert writing.complete().size == len(BIG)


@EACH_ONCE
@pytest.mark.parametrize("act", ["torn", "reset_response"])
def test_a_read_goes_on_where_it_broke_off(bucket: Bucket, proxy: FaultProxy, act: str):
    some = BIG[: 5 * PIECE_BYTES]
    bucket.put("a", some)
    for read in (lambda: b"".join(bucket.stream("a")), lambda: bucket.get("a"), lambda: bucket.open("a").read()):
        proxy.clear()
        proxy.add(act, method="GET", path="/a$", times=3)
        assert read() == some
    assert proxy.hits[act] == 9


@EACH_ONCE
@pytest.mark.parametrize("act", ["slow_down", "reset_before", "reset_request", "reset_response", "lost"])
def test_every_request_of_an_upload_may_fail(bucket: Bucket, proxy: FaultProxy, act: str):
    rules = [
        proxy.add(act, method="POST", query="^uploads", times=2),
        proxy.add(act, method="PUT", query="partNumber", times=4),
        proxy.add(act, method="POST", query="^uploadId", times=2),
    ]
    upload(bucket, "a")
    assert b"".join(bucket.stream("a")) == BIG
    assert all(rule.hits for rule in rules[1:])  # the first has no body that a request could be reset in


@EACH_ONCE
def test_a_reply_whose_head_breaks_off_is_no_reply(bucket: Bucket, proxy: FaultProxy):
    """Python takes what has come for the whole head: an empty success, and an empty listing."""
    bucket.put("a", b"one")
    rule = proxy.add("torn_head", probability=0.5)
    for number in range(4):
        assert bucket.put(f"b{number}", b"two", fence=lambda: None).etag
        assert bucket.get("a") == b"one"
        assert bucket.head("a").size == 3
        assert len(list(bucket.list())) == 2 + number
        assert abs((bucket.now() - datetime.now(UTC)).total_seconds()) < 60
        assert list(bucket.pending_uploads()) == []
    upload(bucket, "c")
    assert bucket.get("c") == BIG
    assert rule.hits > 10


def test_a_conditional_put_whose_reply_is_lost_is_stored(bucket: Bucket, proxy: FaultProxy, s3_store: S3Store):
    proxy.add("lost", method="PUT", path="/lease$", times=1)
    if isinstance(s3_store.server, RgwServer):
        with pytest.raises(PreconditionFailed):
            bucket.put("lease", b"mine", if_absent=True)
    else:
        bucket.put("lease", b"mine", if_absent=True)
    assert bucket.get("lease") == b"mine"


@EACH_ONCE
def test_writing_waits_for_a_slow_store(bucket: Bucket, proxy: FaultProxy):
    proxy.add("delay", method="PUT", query="partNumber", seconds=0.5)
    with bucket.upload("a") as writing:
        writing.write(bytes(60_000_000))
        assert writing.seconds_waited > 0.3
        writing.complete()


@EACH_ONCE
def test_an_outage_is_waited_out(s3_store: S3Store):
    bucket = open_bucket(s3_store.url, patience_seconds=120)
    bucket.put("before", b"1")
    s3_store.server.kill_gateway()
    restart = threading.Timer(5, s3_store.server.start_gateway)
    restart.start()
    try:
        started = time.monotonic()
        bucket.put("during", b"2")
        assert time.monotonic() - started >= 4
    finally:
        restart.join()
    assert [info.key for info in bucket.list()] == ["before", "during"]


@pytest.mark.parametrize("s3_store", ["rgw-tls"], indirect=True)
def test_images_inside_parquet_are_uploaded_through_faults(s3_store: S3Store, proxy: FaultProxy, tmp_path: Path):
    """One shard of several parts, and one of a few bytes, and then as somebody reads them who knows nothing of us."""
    rules = [
        proxy.add(act, path="/images/", times=2) for act in ("slow_down", "reset_before", "reset_response", "lost")
    ]
    spec = finished(
        tmp_path,
        9,
        output=s3_store.url,
        sink="parquet",
        shard_size=8,
        models=[{**MODEL, "model": "fake:natural=1", "width": 1024, "height": 1024}],
        storage=StorageSettings(endpoint_url=proxy.endpoint),
    )
    assert all(rule.hits for rule in rules)
    bucket = open_bucket(spec.output)
    checked = list(verify(bucket, Manifest.load(bucket)))
    assert [fault for one in checked for fault in one.faults] == []
    assert [one.images for one in checked if one.images] == [8, 1]
    whole, last = (pq.read_table(bucket.open(key))["image"].to_pylist() for key in containers(bucket))
    assert [decode(image["bytes"]).shape for image in (*whole, *last)] == [(1024, 1024, 3)] * 9
    assert sum(len(image["bytes"]) for image in whole) > 8 * 1024**2  # a part


def test_a_certificate_nobody_vouches_for_is_refused_at_once(rclone, monkeypatch: pytest.MonkeyPatch):
    for name, value in rclone.environment(rclone.tls_endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_CA_BUNDLE")
    with pytest.raises(StorageError, match=r"LM1308.*CERTIFICATE_VERIFY_FAILED(.|\n)*AWS_CA_BUNDLE"):
        open_bucket("s3://any/p", patience_seconds=600).get("a")


def test_the_secret_is_checked_and_not_told(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-this-server")
    bucket = open_bucket(s3_store.url)
    for use in (lambda: bucket.get("a"), lambda: bucket.head("a"), lambda: list(bucket.list()), bucket.now):
        with pytest.raises(StorageError, match="LM1303") as caught:
            use()
        assert "not-the-secret" not in str(caught.value)
        assert s3_store.server.access_key not in str(caught.value)
