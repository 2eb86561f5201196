"""Each act of the fault proxy does what its name says, seen from the client and from the server."""

from contextlib import suppress

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError, ResponseStreamingError, SSLError

from processes import wait_until
from servers.faultproxy import FaultProxy

DATA = bytes(range(256)) * 4000
LOST = (ConnectionClosedError, HTTPClientError, SSLError)
"""What boto3 makes of a reset; over TLS, while it is sending, it calls it a failed validation."""


class Setting:
    """A bucket, a proxy before its server, a client of the proxy that never tries twice, and the server itself."""

    def __init__(self, server, bucket, proxy, client, direct):
        self.server, self.bucket, self.proxy, self.client, self.direct = server, bucket, proxy, client, direct

    def put(self, key: str = "k", data: bytes = DATA) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str = "k") -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def stored(self) -> list[str]:
        return [o["Key"] for o in self.direct.list_objects_v2(Bucket=self.bucket).get("Contents", [])]


@pytest.fixture(params=["rgw-http", "rgw-tls", "rclone-http", "rclone-tls"])
def setting(request):
    name, _, transport = request.param.partition("-")
    server = request.getfixturevalue(name)
    upstream = server.tls_endpoint if transport == "tls" else server.endpoint
    with (
        FaultProxy(upstream, server.certificates) as proxy,
        server.client(proxy.endpoint, retries={"total_max_attempts": 1}, read_timeout=10) as client,
        server.client(upstream) as direct,
    ):
        yield Setting(server, server.create_bucket(), proxy, client, direct)


def test_without_rules_everything_passes(setting):
    setting.put()
    assert setting.get() == DATA
    assert setting.client.head_object(Bucket=setting.bucket, Key="k")["ContentLength"] == len(DATA)
    setting.client.delete_object(Bucket=setting.bucket, Key="k")
    assert setting.stored() == []
    assert setting.proxy.requests == [f"{m} /{setting.bucket}/k" for m in ("PUT", "GET", "HEAD", "DELETE")]
    assert not setting.proxy.hits


def test_slow_down_is_a_503_and_nothing_arrives(setting):
    setting.proxy.add("slow_down", method="PUT", times=1)
    with pytest.raises(ClientError, match="SlowDown") as refusal:
        setting.put()
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert setting.stored() == []
    setting.put()
    assert setting.stored() == ["k"]
    assert setting.proxy.hits == {"slow_down": 1}


@pytest.mark.parametrize("act", ["reset_before", "reset_request"])
def test_a_reset_of_the_request_leaves_nothing(setting, act):
    setting.proxy.add(act, method="PUT", times=1)
    with pytest.raises(LOST):
        setting.put()
    assert setting.stored() == []
    setting.put()
    assert setting.get() == DATA
    assert setting.proxy.hits == {act: 1}


def test_a_lost_reply_leaves_the_object(setting):
    setting.proxy.add("lost", method="PUT", times=1)
    with pytest.raises(LOST):
        setting.put()
    assert setting.stored() == ["k"]
    assert setting.proxy.hits == {"lost": 1}


def test_half_a_reply_leaves_the_object(setting):
    """Over TLS Python takes the reset for the end of the headers and reports success: what `suppress` is for."""
    setting.proxy.add("reset_response", method="PUT", times=1)
    with suppress(*LOST):
        setting.put()
    assert setting.stored() == ["k"]
    assert setting.proxy.hits == {"reset_response": 1}


@pytest.mark.parametrize("act", ["torn", "reset_response"])
def test_a_get_that_ends_early_is_an_error(setting, act):
    setting.put()
    setting.proxy.add(act, method="GET", times=1)
    with pytest.raises(ResponseStreamingError):
        setting.get()
    assert setting.get() == DATA
    assert setting.proxy.hits == {act: 1}


def test_flip_changes_one_bit_that_nobody_notices(setting):
    setting.put()
    setting.proxy.add("flip", method="GET", times=1, seed=5)
    got = setting.get()
    assert sum((a ^ b).bit_count() for a, b in zip(got, DATA, strict=True)) == 1
    assert setting.get() == DATA
    assert setting.proxy.hits == {"flip": 1}


def test_what_has_no_body_is_not_counted_as_torn_or_flipped(setting):
    setting.put()
    with setting.server.client(setting.proxy.endpoint) as patient:  # a busy gateway may close a connection by itself
        for act in ("torn", "flip", "reset_request"):
            setting.proxy.clear()
            setting.proxy.add(act, method="HEAD")
            patient.head_object(Bucket=setting.bucket, Key="k")
    assert not setting.proxy.hits


def test_delay_waits_and_then_passes(setting):
    rule = setting.proxy.add("delay", path="/k$", times=1, seconds=0.3)
    setting.put()
    assert setting.stored() == ["k"]
    assert rule.hits == 1


def test_rules_choose_by_method_path_and_query(setting):
    setting.proxy.add("slow_down", method="POST", path="/big", query="^uploads", times=1)
    setting.put("big")
    with pytest.raises(ClientError, match="SlowDown"):
        setting.client.create_multipart_upload(Bucket=setting.bucket, Key="big")
    upload = setting.client.create_multipart_upload(Bucket=setting.bucket, Key="big")["UploadId"]
    setting.client.abort_multipart_upload(Bucket=setting.bucket, Key="big", UploadId=upload)
    assert setting.proxy.hits == {"slow_down": 1}


def test_a_seed_spoils_the_same_requests_each_time(setting):
    def weather() -> list[bool]:
        setting.proxy.clear()
        setting.proxy.add("slow_down", method="PUT", probability=0.3, seed=11)
        fine = []
        for _ in range(20):
            try:
                setting.put("w", b"x")
            except ClientError:
                fine.append(False)
            else:
                fine.append(True)
        return fine

    first = weather()
    assert True in first
    assert False in first
    assert weather() == first


def test_a_dead_server_behind_the_proxy_looks_dead(setting):
    setting.put()
    setting.server.kill_gateway()
    try:
        with pytest.raises(LOST):
            setting.get()
    finally:
        setting.server.start_gateway()
    wait_until(lambda: setting.get() == DATA, 10, "the server to be back")
