"""What is written under a lease is not sent once the lease is lost, however long the store kept us waiting."""

import pytest

from actors.errors import Problem, RunError
from actors.storage.opening import open_bucket
from servers.faultproxy import FaultProxy
from servers.store import place_on


@pytest.fixture(params=["folder", "s3"])
def bucket(request, tmp_path):
    if request.param == "folder":
        return open_bucket(str(tmp_path / "out"))
    return open_bucket(request.getfixturevalue("moto_store").url)


def lost():
    raise RunError(Problem("LM1310", "the lease is lost"))


@pytest.mark.parametrize("condition", [{}, {"if_absent": True}])
def test_a_fence_that_raises_keeps_the_bytes_from_being_sent(bucket, condition):
    with pytest.raises(RunError, match="the lease is lost"):
        bucket.put("a", b"never", fence=lost, **condition)
    assert bucket.head("a") is None


def test_a_fence_that_lets_through_is_asked_once(bucket):
    asked = []
    bucket.put("a", b"data", fence=lambda: asked.append("may I"))

    assert bucket.get("a") == b"data"
    assert asked == ["may I"]


def test_it_is_asked_again_before_every_attempt(moto_server, monkeypatch):
    with FaultProxy(moto_server.endpoint, moto_server.certificates) as proxy:
        bucket = open_bucket(place_on(moto_server, proxy.endpoint, monkeypatch).url)
        proxy.add("slow_down", method="PUT", times=2)
        asked = []
        bucket.put("a", b"data", fence=lambda: asked.append("may I"))

        assert bucket.get("a") == b"data"
        assert len(asked) == 3


def test_what_the_store_did_not_take_while_the_lease_was_held_it_never_gets(moto_server, monkeypatch):
    with FaultProxy(moto_server.endpoint, moto_server.certificates) as proxy:
        bucket = open_bucket(place_on(moto_server, proxy.endpoint, monkeypatch).url)
        proxy.add("slow_down", method="PUT")
        asked = []

        def lost_at_the_second():
            asked.append("may I")
            if len(asked) == 2:
                lost()

        with pytest.raises(RunError, match="the lease is lost"):
            bucket.put("a", b"never", fence=lost_at_the_second)
        assert bucket.head("a") is None
