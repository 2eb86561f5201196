"""A fault proxy between a job and its store: nothing is lost, nothing is there twice, and no success is called a failure."""

import pytest

from checker import check
from mill import Job, make_job
from servers.faultproxy import FaultProxy
from servers.server import S3Server
from servers.store import S3Store, place_on

WRITES = {
    "probe": ("PUT", r"/leases/probe-", ""),
    "lease": ("PUT", r"/leases/0", ""),
    "prompts": ("PUT", r"/prompts/", ""),
    "manifest": ("PUT", r"/manifest\.json$", ""),
    "small tar": ("PUT", r"/images/[^/]*\.tar$", r"^$"),
    "begin of an upload": ("POST", r"/images/", r"^uploads"),
    "part": ("PUT", r"/images/", r"partNumber"),
    "end of an upload": ("POST", r"/images/", r"uploadId"),
    "metadata": ("PUT", r"/metadata/", ""),
    "status": ("PUT", r"/status\.json$", ""),
    "log": ("PUT", r"/logs/", ""),
    "list of tars": ("PUT", r"/shards\.txt$", ""),
    "index": ("PUT", r"/index\.parquet$", ""),
    "card": ("PUT", r"/README\.md$", ""),
}
"""Every kind of write that a run makes: method, path, query."""

MODELS = [{"model": "fake", "width": 32, "height": 32}, {"model": "fake:natural=1", "width": 1024, "height": 1024}]
"""Shards of a few kilobytes and of 20 MB: one PUT, and three parts."""
OFTEN = 4
"""More than the three attempts that botocore makes."""


@pytest.fixture(params=["rgw", "rclone"])
def store(request, monkeypatch) -> S3Store:
    server: S3Server = request.getfixturevalue(request.param)
    return place_on(server, server.endpoint, monkeypatch)


def make_mixed_job(folder, output, **fields) -> Job:
    rows = [{"prompt": f"a cat, number {n}", "model": MODELS[n % 6 == 0]["model"]} for n in range(72)]
    return make_job(
        folder, rows, output=output, models=MODELS, overrides=["model"], encoding={"format": "jpeg"}, **fields
    )


def through(proxy: FaultProxy) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL_S3": proxy.endpoint}


def test_lost_replies_to_every_kind_of_write(store, tmp_path):
    job = make_mixed_job(tmp_path, store.url, shard_size=12)
    with FaultProxy(store.endpoint) as proxy:
        rules = {
            name: proxy.add("lost", method=method, path=path, query=query, times=OFTEN)
            for name, (method, path, query) in WRITES.items()
        }
        with job.start(env=through(proxy)) as run:
            run.end()
        assert {name: rule.hits > 0 for name, rule in rules.items()} == dict.fromkeys(rules, True)
    assert "came once more" not in run.child.stderr
    check(job)
