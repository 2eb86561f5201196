"""The S3 servers that other tests rely on are what those tests take them for."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from servers.server import S3Server
from servers.store import S3Store

PART = 5 * 2**20
"""The smallest part that S3 accepts before the last."""


@pytest.fixture(params=["rgw", "rclone", "moto_server"])
def server(request) -> S3Server:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["http", "tls"])
def endpoint(request, server) -> str:
    return server.endpoint if request.param == "http" else server.tls_endpoint


def test_what_is_put_is_read_back_and_listed(server, endpoint):
    bucket = server.create_bucket()
    keys = [f"a/{n:02}.bin" for n in range(12)]
    with server.client(endpoint) as s3:
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode() * 100)
        assert s3.get_object(Bucket=bucket, Key=keys[3])["Body"].read() == keys[3].encode() * 100
        assert s3.get_object(Bucket=bucket, Key=keys[3], Range="bytes=2-5")["Body"].read() == b"03.b"
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix="a/", PaginationConfig={"PageSize": 5}
        )
        assert [entry["Key"] for page in pages for entry in page["Contents"]] == keys


def test_a_multipart_upload_appears_whole_when_completed(server, endpoint):
    bucket = server.create_bucket()
    parts = [b"1" * PART, b"2" * 1000]
    with server.client(endpoint) as s3:
        upload = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
        sent = [
            {
                "PartNumber": n,
                "ETag": s3.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=n, Body=part)["ETag"],
            }
            for n, part in enumerate(parts, start=1)
        ]
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
        s3.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": sent})
        assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == b"".join(parts)


@pytest.mark.parametrize("name", ["rgw", "moto_server"])
def test_both_endpoints_see_the_same_data(request, name):
    server = request.getfixturevalue(name)
    bucket = server.create_bucket()
    with server.client(server.endpoint) as plain, server.client(server.tls_endpoint) as tls:
        assert "Contents" not in tls.list_objects_v2(Bucket=bucket)
        plain.put_object(Bucket=bucket, Key="k", Body=b"first")
        assert tls.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
        tls.put_object(Bucket=bucket, Key="k", Body=b"second, and longer")
        assert plain.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second, and longer"


def race(server: S3Server, endpoint: str, bucket: str, key: str, clients: int = 8) -> int:
    """How many of the clients that PUT one key at once with If-None-Match are told that they won."""
    start = threading.Barrier(clients)

    def contend(number: int) -> bool:
        with server.client(endpoint) as s3:
            start.wait()
            try:
                s3.put_object(Bucket=bucket, Key=key, Body=f"{number}".encode(), IfNoneMatch="*")
            except ClientError as error:
                if error.response["Error"]["Code"] != "PreconditionFailed":
                    raise
                return False
            return True

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(contend, range(clients)))


@pytest.mark.parametrize("transport", ["http", "tls"])
def test_on_rgw_one_of_many_wins_a_race(rgw, transport):
    bucket = rgw.create_bucket()
    endpoint = rgw.endpoint if transport == "http" else rgw.tls_endpoint
    assert [race(rgw, endpoint, bucket, f"{n}") for n in range(5)] == [1] * 5


def test_on_moto_one_of_many_wins_a_race(moto_server):
    bucket = moto_server.create_bucket()
    assert [race(moto_server, moto_server.endpoint, bucket, f"{n}") for n in range(5)] == [1] * 5


def test_on_rclone_everybody_is_told_that_they_won(rclone):
    assert race(rclone, rclone.endpoint, rclone.create_bucket(), "k") == 8


@pytest.mark.parametrize("name", ["rgw", "rclone"])
def test_a_wrong_secret_is_refused(request, name):
    server = request.getfixturevalue(name)
    bucket = server.create_bucket()
    with server.client(server.endpoint) as s3:
        s3._request_signer._credentials.secret_key = "guessed"
        with pytest.raises(ClientError) as refusal:
            s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert refusal.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


@pytest.mark.parametrize("name", ["rgw", "rclone"])
def test_checksum_trailers_are_refused_over_tls(request, name):
    """boto3's own default; why lightmill computes its own hashes for stores other than Amazon's."""
    server = request.getfixturevalue(name)
    bucket = server.create_bucket()
    with (
        server.client(server.tls_endpoint, request_checksum_calculation="when_supported") as s3,
        pytest.raises(ClientError) as refusal,
    ):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 411


def test_the_data_survives_the_gateway(server, endpoint):
    bucket = server.create_bucket()
    with server.client(endpoint, retries={"total_max_attempts": 1}) as s3:
        s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
        server.kill_gateway()
        try:
            with pytest.raises(Exception, match=r"(?i)connect"):
                s3.get_object(Bucket=bucket, Key="k")
        finally:
            server.start_gateway()
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


@pytest.mark.parametrize("name", ["rgw", "rclone"])
def test_a_killed_gateway_is_a_new_process_when_it_returns(request, name):
    server = request.getfixturevalue(name)
    before = server.processes()[0]
    server.kill_gateway()
    server.start_gateway()
    assert not psutil.pid_exists(before)
    assert psutil.pid_exists(server.processes()[0])


def test_the_environment_alone_reaches_the_store(s3_store: S3Store):
    with closing(boto3.client("s3")) as s3, s3_store.client() as direct:
        assert s3.meta.endpoint_url == s3_store.endpoint
        direct.put_object(Bucket=s3_store.bucket, Key=f"{s3_store.prefix}/k", Body=b"x")
        listed = s3.list_objects_v2(Bucket=s3_store.bucket, Prefix=s3_store.prefix)
        assert [entry["Key"] for entry in listed["Contents"]] == [f"{s3_store.prefix}/k"]
