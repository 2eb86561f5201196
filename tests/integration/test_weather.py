"""A fault proxy between a job and its store: nothing is lost or there twice, and no success is called a failure."""

import pytest

from builders import QuietLeash, drive
from checker import check
from drills import WRITES, lose_replies, storm, through
from mill import Job, make_job
from servers.faultproxy import FaultProxy
from servers.server import S3Server
from servers.store import S3Store, place_on

MODELS = [{"model": "fake", "width": 32, "height": 32}, {"model": "fake:natural=1", "width": 1024, "height": 1024}]
"""Shards of a few kilobytes and of 20 MB: one PUT, and three parts."""


@pytest.fixture
def store(request, monkeypatch) -> S3Store:
    server: S3Server = request.getfixturevalue(request.param)
    return place_on(server, server.endpoint, monkeypatch)


def of(*names: str) -> pytest.MarkDecorator:
    """Between them the tests meet each fault on both kinds of server; `make chaos` has every one on every store."""
    return pytest.mark.parametrize("store", names, indirect=True)


def make_mixed_job(folder, output, **fields) -> Job:
    rows = [{"prompt": f"a cat, number {n}", "model": MODELS[n % 6 == 0]["model"]} for n in range(72)]
    return make_job(
        folder, rows, output=output, models=MODELS, overrides=["model"], encoding={"format": "png"}, **fields
    )


def drive_through(proxy: FaultProxy, job: Job, monkeypatch, purpose: str = "run") -> QuietLeash:
    """Driver and workers in this process: what the weather meets is their storage, and not Ray."""
    with monkeypatch.context() as environment:
        for name, value in through(proxy).items():
            environment.setenv(name, value)
        leash = drive(job.spec, purpose=purpose)
    assert leash.ends[-1][0] == 0, leash.errors
    return leash


@of("rgw", "rclone")
def test_lost_replies_to_every_kind_of_write(store, tmp_path, monkeypatch):
    job = make_mixed_job(tmp_path, store.url, shard_size=12)
    with FaultProxy(store.endpoint) as proxy:
        rules = lose_replies(proxy)
        leash = drive_through(proxy, job, monkeypatch)
        assert {name: rule.hits > 0 for name, rule in rules.items()} == dict.fromkeys(rules, True)
    assert not [text for text in leash.said if "came once more" in text]
    check(job)


@of("rclone")
def test_refused_writes_and_damaged_reads_reach_nobody(store, tmp_path, monkeypatch):
    """Each kind of write is refused, reset before its body and reset in it, then taken. What was read damaged of table,
    manifest, metadata and index is not believed, and not written back."""
    cure = tmp_path / "cure"
    rows = [f"a cat, number {number}{' boom' * (number % 5 == 0)}" for number in range(14)]
    models = [{**MODELS[0], "model": f"fake:fail=boom,cure={cure}"}, MODELS[1]]
    job = make_job(tmp_path, rows, output=store.url, models=models, encoding={"format": "png"}, shard_size=12)
    acts = ("slow_down", "reset_before", "reset_request")
    with FaultProxy(store.endpoint) as proxy:
        for act in acts:
            for method, path, query in WRITES.values():
                proxy.add(act, method=method, path=path, query=query, times=2)
        rules = {
            (act, path): proxy.add(act, method="GET", path=path, times=2, seed=seed)
            for seed, path in enumerate((r"/prompts/", r"/manifest\.json$", r"/metadata/", r"/index\.parquet$"))
            for act in ("torn", "flip")
        }
        drive_through(proxy, job, monkeypatch)
        assert min(proxy.hits[act] for act in acts) >= len(WRITES)
        cure.touch()
        drive_through(proxy, job, monkeypatch, "retry")
        drive_through(proxy, job, monkeypatch)  # reads the index
        assert {words: rule.hits > 0 for words, rule in rules.items()} == dict.fromkeys(rules, True)
    assert check(job).ok == 2 * len(rows)


@of("rgw")
def test_bad_weather_throughout(store, tmp_path):
    """With real processes, whose errors cross from the workers to the driver."""
    job = make_mixed_job(tmp_path, store.url, shard_size=6)
    with FaultProxy(store.endpoint) as proxy:
        expected = storm(proxy, seed=1)
        with job.start(env=through(proxy)) as run:
            run.end()
        assert proxy.hits.keys() == expected
    check(job)
